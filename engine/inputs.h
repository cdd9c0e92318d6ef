// Inputs: what one pass reads of a batch, in the memory of the device. InputRing brings it there.
//
// On a GPU copies run on a stream of their own beside the computation. A ring of slots holds what
// is under way: [key | labels | crops | pixels] in pinned memory and once more on the device.
// Pixels in pinned memory (Reach::both) are not copied by the host, those already on the device
// (Reach::gpu) by nobody.
#pragma once

#include <cstdint>
#include <memory>

#include "engine/batch.h"
#include "engine/device.h"
#include "kernels/philox.h"

namespace tunas::engine {

struct Inputs {
  int n = 0;  // images
  const std::uint8_t* pixels = nullptr;
  const Crop* crops = nullptr;
  const std::int32_t* labels = nullptr;
  const PhiloxKey* key = nullptr;  // of dropout
  double crop_pixels = 0;          // of all crops together
};

/// A batch and its key as they lie in the host's memory.
Inputs host_inputs(const Batch& batch, const PhiloxKey& key);

class InputRing {
 public:
  explicit InputRing(const Device& device);
  InputRing(const InputRing&) = delete;
  InputRing& operator=(const InputRing&) = delete;
  ~InputRing();

  /// Inputs that kernels put on the device's stream from now on may read. On a GPU `batch` may be
  /// reused at once, and `key` too; on the CPU they are read where they lie. Waits where the GPU is
  /// kSlots batches behind. Grows when a batch is larger than all before; otherwise allocates
  /// nothing.
  Inputs put(const Batch& batch, const PhiloxKey& key);
  /// To be called once the last kernel that reads the newest inputs is on the stream.
  void done();

  static constexpr int kSlots = 3;

 private:
  struct Gpu;
  const Device* device_;
  std::unique_ptr<Gpu> gpu_;  // null: CPU
};

}  // namespace tunas::engine
