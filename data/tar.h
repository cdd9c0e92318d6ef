// WebDataset tars: uncompressed USTAR archives (with GNU and pax long names) in which KEY.jpg or
// KEY.jpeg and KEY.cls (the label, decimal) make a sample. KEY ends at the first dot of the file
// name, as WebDataset has it; members with other endings are not looked at.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "data/records.h"

namespace tunas::data {

struct TarMember {
  std::string name;
  std::uint64_t offset = 0;  // of the contents
  std::uint64_t size = 0;
};

/// The regular files of an archive, in order. Throws Error(data), naming `path` and the offset, for
/// a damaged header, a member that reaches beyond the end, or a missing end of archive.
std::vector<TarMember> tar_members(std::span<const std::uint8_t> archive, const std::string& path);

struct TarSample {
  std::string key;
  std::uint64_t offset = 0, size = 0;  // of the JPEG
  std::int32_t label = 0;
};

/// The samples of an archive, in the order of their images. Throws Error(data) as above, and for
/// an image without label, a label without image, a key that comes twice, an unreadable label.
std::vector<TarSample> tar_samples(std::span<const std::uint8_t> archive, const std::string& path);

/// All samples of the files that match, files in alphabetical order; the files are mapped, not
/// read. Throws Error(data) as above, and where nothing matches or the files hold no sample.
Records open_tars(const std::string& pattern);

}  // namespace tunas::data
