// Decoding: a region of a record's image as RGB bytes [h][w][3].
//
// JPEG (libjpeg-turbo: accurate integer DCT, smooth chroma upsampling, the settings TensorFlow
// uses): grey and CMYK/YCCK become RGB. Only rows and blocks around the region are decoded, with
// one iMCU to spare on each side, which gives the same pixels as decoding everything.
//
// A JPEG whose data is damaged or ends early *within what the region needs* is an error, never a
// picture with grey or stale pixels. Harmless oddities (extra bytes before a marker, odd version
// numbers) are accepted.
#pragma once

#include <cstdint>
#include <memory>

#include "data/records.h"
#include "data/region.h"

namespace tunas::data {

inline constexpr std::int64_t kMaxPixels = 100'000'000;
/// A progressive JPEG may repeat its scans without end; honest ones have a dozen.
inline constexpr int kMaxScans = 200;

/// One thread's decoder; keeps its buffers from image to image.
class Decoder {
 public:
  Decoder();
  Decoder(Decoder&&) noexcept;
  ~Decoder();

  /// The size of an image, whose bytes must stay until read() is done. Throws Error(data) with the
  /// reason where it is no image, or one beyond kMaxPixels.
  Size open(const Content& content);

  /// Decodes a region of the opened image, once per open(). Throws Error(data) with the reason
  /// where the data is damaged; `rgb` then holds nothing of use.
  void read(const Region& region, std::uint8_t* rgb);

 private:
  struct Jpeg;
  std::unique_ptr<Jpeg> jpeg_;
  Content content_;
  Size size_;
};

}  // namespace tunas::data
