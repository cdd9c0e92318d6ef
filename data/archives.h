// Archives: files that hold many samples each, found by a pattern, indexed once (data/index.h) and
// read by index. What a tar and a TFRecord file share.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "data/index.h"
#include "data/records.h"

namespace tunas::data {

struct ArchiveFormat {
  const char* name;     // as in the spec: "tar"
  std::uint32_t code;   // in an index file
  const char* samples;  // what one looks like, for messages
  /// Walks over an archive without touching the images. Error(data) naming `path` and the place.
  Index (*index)(ByteSpan archive, const std::string& path);
  /// The image of a sample stored at [offset, offset + size). Error(data) with the reason alone.
  Content (*content)(ByteSpan archive, std::uint64_t offset, std::uint64_t size);
};

extern const ArchiveFormat kTar, kTfrecord;

/// The format whose name is `kind`; null where it is none of archives.
const ArchiveFormat* archive_format(const std::string& kind);

/// fresh: indices are made anew even where the stored ones are good.
enum class Reuse : unsigned char { stored, fresh };

struct Indexing {
  Reuse reuse = Reuse::stored;
  /// Smaller archives are walked over in milliseconds: what would lie beside them is not worth it.
  std::uint64_t keep_from_bytes = std::uint64_t{64} << 20;
  int threads = 0;  // 0: as many as there are cores, at most 16
  /// Called now and then, on the calling thread; what it throws ends the work after whole files.
  std::function<void(std::int64_t files_done, std::int64_t files)> progress = {};
};

/// What became of the index of one archive.
struct IndexReport {
  std::string archive;
  std::string index;  // where it is kept; empty where neither place could be written
  bool reused = false;
  std::int64_t samples = 0;
};

/// All samples of the files that match, files in alphabetical order. Error(data) where nothing
/// matches, a file is damaged, or none holds a sample. An index that is damaged, stale or cannot be
/// kept is no error. `reports`, where given, gets one entry for each file.
Records open_archives(const ArchiveFormat& format, const std::string& pattern,
                      const Indexing& indexing = {}, std::vector<IndexReport>* reports = nullptr);

}  // namespace tunas::data
