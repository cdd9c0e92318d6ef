// WebDataset tars: uncompressed USTAR archives (with GNU and pax long names) in which KEY.jpg,
// KEY.jpeg or KEY.png and KEY.cls (the label, decimal) or KEY.json (an object with the label under
// "label" or "cls") make a sample; where both are there, .cls says the label. KEY ends at the first
// dot of the file name, as WebDataset has it, endings are of either case, and members with other
// endings are not looked at. Records: open_archives(kTar, pattern) of data/archives.h.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

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
  std::uint64_t offset = 0, size = 0;  // of the image
  std::int32_t label = 0;
};

/// The samples of an archive, in the order of their images. Throws Error(data) as above, and for
/// an image without label, a label without image, a key that comes twice, an unreadable label.
std::vector<TarSample> tar_samples(std::span<const std::uint8_t> archive, const std::string& path);

}  // namespace tunas::data
