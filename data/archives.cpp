#include "data/archives.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

struct Archive {
  std::unique_ptr<MappedFile> file;
  Index index;
  std::int64_t first = 0;  // record
};

struct Archives {
  const ArchiveFormat& format;
  std::vector<Archive> files;

  /// The archive that a record lies in.
  const Archive& of(std::int64_t record) const {
    const auto after = std::upper_bound(
        files.begin(), files.end(), record,
        [](std::int64_t wanted, const Archive& archive) { return wanted < archive.first; });
    return *std::prev(after);
  }
};

/// The index kept at `path`, if it is whole and that of `file` as it is now.
std::optional<Index> kept_index(const std::string& path, const MappedFile& file,
                                const ArchiveFormat& format) {
  std::error_code error;
  if (path.empty() || !std::filesystem::is_regular_file(path, error)) return {};
  try {
    const MappedFile stored(path);
    StoredIndex parsed = parse_index(stored.bytes(), path);
    if (parsed.format != format.code || !(parsed.of == fingerprint(file))) return {};
    return std::move(parsed.index);
  } catch (const Error&) {
    return {};  // made again
  }
}

/// True where the index could be written; where it cannot, the next start walks again, that is all.
bool keep(const std::vector<std::uint8_t>& bytes, const std::string& path) {
  try {
    engine::NewFile file(path);
    file.write(bytes.data(), bytes.size());
    file.commit();
    return true;
  } catch (const Error&) {
    return false;
  }
}

bool keep_in_cache(const std::vector<std::uint8_t>& bytes, const std::string& path) {
  std::error_code error;
  if (path.empty()) return false;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), error);
  return keep(bytes, path);
}

IndexReport settle(Archive& archive, const ArchiveFormat& format, const Indexing& indexing) {
  const MappedFile& file = *archive.file;
  const std::string beside = index_beside(file.path()), cache = index_in_cache(file.path());
  IndexReport report{file.path(), "", false, 0};
  if (indexing.reuse == Reuse::stored) {
    for (const std::string& path : {beside, cache}) {
      std::optional<Index> kept = kept_index(path, file, format);
      if (!kept) continue;
      archive.index = std::move(*kept);
      return {file.path(), path, true, static_cast<std::int64_t>(archive.index.size())};
    }
  }
  file.expect(MappedFile::Access::jumps);
  archive.index = format.index(file.bytes(), file.path());
  file.expect(MappedFile::Access::usual);
  report.samples = static_cast<std::int64_t>(archive.index.size());
  if (file.bytes().size() < indexing.keep_from_bytes) return report;
  const std::vector<std::uint8_t> bytes =
      index_bytes({format.code, fingerprint(file), archive.index});
  if (keep(bytes, beside)) {
    report.index = beside;
  } else if (keep_in_cache(bytes, cache)) {
    report.index = cache;
  }
  return report;
}

/// Settles every archive on several threads, in the order of the files; the first error in that
/// order is thrown.
class Settling {
 public:
  Settling(std::vector<Archive>& files, const ArchiveFormat& format, const Indexing& indexing)
      : files_(files), format_(format), indexing_(indexing), reports_(files.size()) {}

  std::vector<IndexReport> run() {
    const auto cores = static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
    const int wanted = indexing_.threads > 0 ? indexing_.threads : std::min(cores, 16);
    std::vector<std::thread> threads;
    try {
      for (int i = 0; i < std::min(wanted, static_cast<int>(files_.size())); ++i) {
        threads.emplace_back([this] { work(); });
      }
    } catch (const std::system_error&) {
      if (threads.empty()) work();  // else fewer threads do it
    }
    std::exception_ptr ended;
    try {
      if (indexing_.progress) watch();
    } catch (...) {
      ended = std::current_exception();
      next_ = files_.size();
    }
    for (std::thread& thread : threads) thread.join();
    if (ended) std::rethrow_exception(ended);
    if (error_) std::rethrow_exception(error_);
    return std::move(reports_);
  }

 private:
  void work() {
    for (;;) {
      const std::size_t i = next_++;
      if (i >= files_.size()) return;
      std::exception_ptr error;
      try {
        reports_[i] = settle(files_[i], format_, indexing_);
      } catch (...) {
        error = std::current_exception();
      }
      const std::lock_guard lock(mutex_);
      if (error && i < failed_) {
        failed_ = i;
        error_ = error;
        next_ = files_.size();  // files before this one are under way already
      }
      ++done_;
      changed_.notify_all();
    }
  }

  void watch() {
    constexpr std::chrono::milliseconds kInterval(100);  // at which an interrupt is noticed
    const auto files = static_cast<std::int64_t>(files_.size());
    std::unique_lock lock(mutex_);
    for (std::int64_t said = 0; said < files && !error_;) {
      changed_.wait_for(lock, kInterval, [&] { return done_ > said || error_; });
      said = done_;
      lock.unlock();
      indexing_.progress(said, files);
      lock.lock();
    }
  }

  std::vector<Archive>& files_;
  const ArchiveFormat& format_;
  const Indexing& indexing_;
  std::atomic<std::size_t> next_ = 0;
  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  std::int64_t done_ = 0;
  std::size_t failed_ = static_cast<std::size_t>(-1);  // the first file that did
  std::exception_ptr error_;
  std::vector<IndexReport> reports_;
};

}  // namespace

const ArchiveFormat* archive_format(const std::string& kind) {
  for (const ArchiveFormat* format : {&kTar, &kTfrecord}) {
    if (kind == format->name) return format;
  }
  return nullptr;
}

Records open_archives(const ArchiveFormat& format, const std::string& pattern,
                      const Indexing& indexing, std::vector<IndexReport>* reports) {
  const auto archives = std::make_shared<Archives>(Archives{format, {}});
  Records records;
  records.spec = std::string(format.name) + ":" + pattern;
  for (const std::string& path : matching_files(pattern, records.spec)) {
    archives->files.push_back({std::make_unique<MappedFile>(path), {}, 0});
  }
  std::vector<IndexReport> settled = Settling(archives->files, format, indexing).run();
  for (Archive& archive : archives->files) {
    archive.first = records.size();
    const std::vector<std::int32_t>& labels = archive.index.labels;
    records.labels.insert(records.labels.end(), labels.begin(), labels.end());
    archive.index.labels = {};
  }
  // An archive without samples shares its first record with the one behind it.
  std::erase_if(archives->files,
                [](const Archive& archive) { return archive.index.offsets.empty(); });
  if (reports) *reports = std::move(settled);
  if (records.labels.empty()) {
    fail(Exit::data, records.spec, ": the files that match hold no sample; one is ",
         format.samples);
  }
  records.content = [archives](std::int64_t i, Records::Scratch&) {
    const Archive& archive = archives->of(i);
    const auto at = static_cast<std::size_t>(i - archive.first);
    return archives->format.content(archive.file->bytes(), archive.index.offsets[at],
                                    archive.index.sizes[at]);
  };
  records.place = [archives](std::int64_t i) {
    const Archive& archive = archives->of(i);
    const auto at = static_cast<std::size_t>(i - archive.first);
    return Place{archive.file->path(), std::string(archive.index.keys[at]),
                 static_cast<std::int64_t>(archive.index.offsets[at])};
  };
  return records;
}

}  // namespace tunas::data
