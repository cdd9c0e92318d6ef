#include "engine/inputs.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/cuda_context.h"
#include "kernels/error.h"
#include "kernels/runtime.h"

namespace tunas::engine {

namespace cuda = kernels::cuda;

namespace {

constexpr std::size_t kAlign = 64;

std::size_t aligned(std::size_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

/// Where the parts of a batch begin in a slot. Pixels that lie far apart are packed.
struct Layout {
  std::size_t labels, crops, pixels, end;
  std::size_t span = 0, packed = 0;  // bytes of the pixels as they lie, and without what is between

  explicit Layout(const Batch& batch)
      : labels(aligned(sizeof(PhiloxKey))),
        crops(labels + aligned(batch.labels.size() * sizeof(std::int32_t))),
        pixels(crops + aligned(batch.crops.size() * sizeof(Crop))),
        end(pixels) {
    if (batch.reach == Reach::gpu) return;
    for (const Crop& crop : batch.crops) {
      span = std::max(span, static_cast<std::size_t>(crop.offset) + crop.bytes());
      packed += aligned(crop.bytes());
    }
    end += packs() ? packed : span;
  }
  bool packs() const { return span > 2 * packed; }
};

struct Slot {
  Memory host, device;
  cuda::OwnedEvent copied = cuda::make_event(), read = cuda::make_event();
};

}  // namespace

Inputs host_inputs(const Batch& batch, const PhiloxKey& key) {
  Inputs inputs{batch.size(), batch.pixels, batch.crops.data(), batch.labels.data(), &key};
  for (const Crop& crop : batch.crops) inputs.crop_pixels += 1.0 * crop.h * crop.w;
  return inputs;
}

struct InputRing::Gpu {
  CUstream_st* compute;
  cuda::OwnedStream copies = cuda::make_stream();
  std::array<Slot, kSlots> slots;
  int now = 0;  // the newest one
};

InputRing::InputRing(const Device& device) : device_(&device) {
  if (device.kind() == Kind::cpu) return;
  gpu_ = std::make_unique<Gpu>();
  gpu_->compute = static_cast<CudaContext*>(device.stream().handle)->stream;
}

InputRing::~InputRing() {
  if (!gpu_) return;
  try {  // nothing may still read or write the slots
    cuda::wait(gpu_->copies.get());
    device_->sync();
  } catch (const Error&) {  // of work that somebody else waits for, too
  }
}

Inputs InputRing::put(const Batch& batch, const PhiloxKey& key) {
  if (!gpu_) return host_inputs(batch, key);
  gpu_->now = (gpu_->now + 1) % kSlots;
  Slot& slot = gpu_->slots[static_cast<std::size_t>(gpu_->now)];
  cuda::wait(slot.read.get());  // and so for the copy before it
  const Layout layout(batch);
  if (slot.device.bytes() < layout.end) {
    slot.device = {};
    slot.host = {};
    slot.device = device_->alloc(layout.end + layout.end / 4);
    slot.host = device_->alloc(slot.device.bytes(), Place::host);
    device_->sync();  // zeroed before the other stream writes
  }
  char* host = slot.host.data();
  std::memcpy(host, &key, sizeof key);
  std::copy(batch.labels.begin(), batch.labels.end(),
            reinterpret_cast<std::int32_t*>(host + layout.labels));
  auto* crops = reinterpret_cast<Crop*>(host + layout.crops);
  std::copy(batch.crops.begin(), batch.crops.end(), crops);
  CUstream_st* copies = gpu_->copies.get();
  char* to = slot.device.data();
  const bool staged = batch.reach == Reach::host;
  const auto bring = [&](std::size_t at, std::size_t from, std::size_t bytes) {
    if (staged) {
      std::memcpy(host + layout.pixels + at, batch.pixels + from, bytes);
    } else {
      cuda::copy(copies, to + layout.pixels + at, batch.pixels + from, bytes);
    }
  };
  if (layout.packs()) {
    std::size_t at = 0;
    for (std::size_t i = 0; i < batch.crops.size(); at += aligned(batch.crops[i++].bytes())) {
      bring(at, batch.crops[i].offset, batch.crops[i].bytes());
      crops[i].offset = at;
    }
  } else {
    bring(0, 0, layout.span);
  }
  cuda::copy(copies, to, host, staged ? layout.end : layout.pixels);
  cuda::record(slot.copied.get(), copies);
  cuda::wait(gpu_->compute, slot.copied.get());
  if (batch.reach == Reach::both) cuda::wait(slot.copied.get());  // the loader reuses its memory
  Inputs inputs = host_inputs(batch, key);
  if (batch.reach != Reach::gpu) {
    inputs.pixels = reinterpret_cast<std::uint8_t*>(to + layout.pixels);
  }
  inputs.crops = reinterpret_cast<Crop*>(to + layout.crops);
  inputs.labels = reinterpret_cast<std::int32_t*>(to + layout.labels);
  inputs.key = reinterpret_cast<PhiloxKey*>(to);
  return inputs;
}

void InputRing::done() {
  if (!gpu_) return;
  cuda::record(gpu_->slots[static_cast<std::size_t>(gpu_->now)].read.get(), gpu_->compute);
}

}  // namespace tunas::engine
