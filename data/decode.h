// Decoding: a region of a record's image as RGB bytes [h][w][3]. What a file is, its first bytes
// say, not its name: JPEG and PNG are read, raw pixels pass through.
//
//   JPEG   libjpeg-turbo with the settings TensorFlow and Pillow use (accurate integer DCT, smooth
//          chroma upsampling); only rows and blocks that the region needs are decoded, and the
//          pixels are those of decoding everything. Grey and CMYK/YCCK become RGB: c*k/255, of
//          values that Adobe stores inverted. Without any marker that names the colours, three
//          components are YCbCr unless they call themselves R, G, B.
//   PNG    libpng, row by row as far as the region needs; an interlaced one as a whole. Grey, low
//          bits and palettes become RGB, alpha and tRNS are dropped, 16 bits keep their high byte:
//          as Pillow's convert("RGB"), except that Pillow clips 16-bit grey at 255.
//
// Orientation (EXIF), colour profiles and gamma are not applied, as TensorFlow and torchvision do.
//
// An image whose data is damaged or ends early *within what the region needs* is an error, never a
// picture with grey or stale pixels. Harmless oddities (extra bytes before a marker, odd version
// numbers) are accepted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "data/records.h"
#include "data/region.h"

namespace tunas::data {

inline constexpr std::int64_t kMaxPixels = 100'000'000;
/// A progressive JPEG may repeat its scans without end; honest ones have a dozen.
inline constexpr int kMaxScans = 200;
/// That a decoder may hold of one image: the coefficients of a progressive JPEG (2 bytes each), the
/// pixels of an interlaced PNG. A baseline JPEG and a plain PNG need a few rows.
inline constexpr std::size_t kMaxDecodeMemory = std::size_t{256} << 20;

class Jpeg;
class Png;

/// How many times fewer rows and columns than stored an image is decoded to: 1, or for JPEG 2, 4,
/// 8 (the DCT is inverted to fewer pixels, each about the mean of those it stands for).
struct Reduction {
  int by = 1;
};

/// One thread's decoder; keeps its buffers from image to image.
class Decoder {
 public:
  Decoder();
  Decoder(Decoder&&) noexcept;
  ~Decoder();

  /// The size of an image, whose bytes must stay until read() is done. Throws Error(data) with the
  /// reason where it is no image, or one beyond kMaxPixels.
  Size open(const Content& content);

  /// The largest reduction of the opened image at which the region still has twice `resolution`
  /// pixels each way; none unless it is a JPEG.
  Reduction reduction(const Region& region, int resolution) const;

  /// Decodes a region of the opened image, once per open(). With a reduction, `region` counts
  /// pixels of the reduced image. Throws Error(data) with the reason where the data is damaged;
  /// `rgb` then holds nothing of use.
  void read(const Region& region, std::uint8_t* rgb, Reduction reduction = {});

  /// After an Error(data) of open() or read(): the byte of the image at which decoding gave up, as
  /// far as the library said; it may have looked a little further.
  std::int64_t stopped_at() const;

 private:
  enum class Format : unsigned char { pixels, jpeg, png, unknown };
  static Format format_of(const Content& content);

  std::unique_ptr<Jpeg> jpeg_;
  std::unique_ptr<Png> png_;
  Format format_ = Format::unknown;
  Content content_;
  Size size_;
};

/// Where `region` lies in an image of size `image` reduced so: rounded to whole pixels, not empty.
Region reduced(const Region& region, Size image, Reduction reduction);

/// Throws Error(data) where an image of this size has more than kMaxPixels.
void check_pixels(std::int64_t h, std::int64_t w);

}  // namespace tunas::data
