// CIFAR-10 as its authors give it out (cifar-10-binary.tar.gz): data_batch_1.bin to _5.bin for
// training, test_batch.bin. A record is 3073 bytes: the label 0..9, then 32x32 pixels of red, of
// green, of blue, row-major; it is handed out as [32][32][3].
#pragma once

#include <string>

#include "data/mapped_file.h"
#include "data/records.h"

namespace tunas::data {

/// The labels of a batch. Error(data) naming `path` unless it is whole records with labels 0..9.
std::vector<std::int32_t> parse_cifar10(ByteSpan bytes, const std::string& path);

/// `folder`: where the batches lie, or where cifar-10-batches-bin lies. Mapped, not read.
Records open_cifar10(const std::string& folder, Split split);

}  // namespace tunas::data
