#include "data/folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <memory>

#include "data/names.h"
#include "engine/file.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

namespace fs = std::filesystem;

enum class FileKind : unsigned char { image, unread, other };

FileKind kind_of(const std::string& name) {
  std::string ending = name.substr(std::min(name.rfind('.'), name.size()));
  for (char& c : ending) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  for (const char* known : {".jpg", ".jpeg", ".png"}) {
    if (ending == known) return FileKind::image;
  }
  // What ImageFolder reads besides; to leave these out would be another data set.
  for (const char* known : {".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"}) {
    if (ending == known) return FileKind::unread;
  }
  return FileKind::other;
}

bool is_file(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error);
}

struct Listing {
  std::vector<std::string> folders, images;  // names, sorted
};

Listing list(const std::string& folder) {
  Listing listing;
  try {
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      std::string name = entry.path().filename().string();
      const FileKind kind = kind_of(name);
      if (kind == FileKind::image && !entry.is_directory()) {
        listing.images.push_back(std::move(name));
      } else if (entry.is_directory()) {
        listing.folders.push_back(std::move(name));
      } else if (kind == FileKind::unread) {
        fail(Exit::data, folder, "/", name,
             ": only JPEG and PNG images are read; convert it, or move it away");
      }
    }
  } catch (const fs::filesystem_error& error) {
    fail(Exit::data, folder, ": cannot be listed (", error.code().message(),
         "); check the path and its permissions");
  }
  std::sort(listing.folders.begin(), listing.folders.end());
  std::sort(listing.images.begin(), listing.images.end());
  return listing;
}

/// The images below a class, as paths from `root`.
void walk(const std::string& root, const std::string& folder, int depth,
          std::vector<std::pair<std::string, std::string>>& found) {
  constexpr int kDeepest = 32;
  if (depth > kDeepest) {
    fail(Exit::data, root, "/", folder, ": more than ", kDeepest,
         " folders deep; does a link lead back into the folder it is in?");
  }
  const Listing listing = list(root + "/" + folder);
  for (const std::string& name : listing.images) found.emplace_back(folder, name);
  for (const std::string& name : listing.folders) {
    walk(root, folder + "/" + name, depth + 1, found);
  }
}

/// A file's bytes, in `scratch`.
Content read_image(const std::string& path, Records::Scratch& scratch) {
  constexpr std::int64_t kMostBytes = 1 << 30;
  const auto stop = [&](const char* what, const char* reason) {
    fail(Exit::data, what, " (", reason, ")");
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) stop("the file cannot be opened", std::strerror(errno));
  struct stat info = {};
  const bool good = fstat(file, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= kMostBytes;
  scratch.resize(good ? static_cast<std::size_t>(info.st_size) : 0);
  std::size_t used = 0;
  ssize_t got = 1;
  while (used < scratch.size() && got != 0) {
    got = read(file, scratch.data() + used, scratch.size() - used);
    if (got < 0 && errno != EINTR) break;
    used += static_cast<std::size_t>(std::max<ssize_t>(got, 0));
  }
  const int reason = errno;
  close(file);
  if (!good) stop("the file cannot be read", "not a file of at most a gigabyte");
  if (got < 0) stop("the file cannot be read", std::strerror(reason));
  return Content{std::span(scratch).first(used)};
}

Records file_records(const std::string& folder, std::shared_ptr<const Names> names,
                     std::vector<std::int32_t> labels) {
  Records records;
  records.spec = "folder:" + folder;
  records.labels = std::move(labels);
  const auto path = [folder, names](std::int64_t i) {
    return folder + "/" + std::string((*names)[static_cast<std::size_t>(i)]);
  };
  records.content = [path](std::int64_t i, Records::Scratch& scratch) {
    return read_image(path(i), scratch);
  };
  records.place = [path](std::int64_t i) { return Place{path(i), ""}; };
  return records;
}

/// A folder for each class.
Records open_classes(const std::string& folder, const std::vector<std::string>& classes) {
  for (const char* half : {"train", "val", "test"}) {
    if (classes.size() <= 3 && std::binary_search(classes.begin(), classes.end(), half)) {
      fail(Exit::data, folder, ": its folders are halves of a data set, not classes; name one, ",
           "as in folder:", folder, "/", half);
    }
  }
  const auto names = std::make_shared<Names>();
  std::vector<std::int32_t> labels;
  for (std::size_t label = 0; label < classes.size(); ++label) {
    std::vector<std::pair<std::string, std::string>> images;
    walk(folder, classes[label], 1, images);
    if (images.empty()) {
      fail(Exit::data, folder, "/", classes[label],
           ": a class without images; labels count the folders, so fill it or remove it");
    }
    std::sort(images.begin(), images.end());
    for (const auto& [below, name] : images) names->add(below + "/" + name);
    labels.resize(names->size(), check_label(static_cast<std::int64_t>(label), folder));
  }
  return file_records(folder, names, std::move(labels));
}

/// The number of ILSVRC2012_val_00000017.JPEG; 0 where the name is another.
std::size_t number_of(std::string_view name) {
  constexpr std::string_view kFront = "ILSVRC2012_val_";
  if (!name.starts_with(kFront)) return 0;
  name.remove_prefix(kFront.size());
  std::size_t number = 0;
  const auto parsed = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool dot = parsed.ptr != name.data() + name.size() && *parsed.ptr == '.';
  return parsed.ec == std::errc() && dot ? number : 0;
}

/// Name without ending: LOC_val_solution.csv has none.
std::string_view stem(std::string_view name) { return name.substr(0, name.rfind('.')); }

std::int32_t label_of(const ImageLabels& labels, const std::string& name, const std::string& path,
                      const std::string& file) {
  if (!labels.by_number.empty()) {
    const std::size_t number = number_of(name);
    if (number == 0) {
      fail(Exit::data, path, "/", name, ": has no number as ILSVRC2012_val_00000001.JPEG has, and ",
           file, " lists labels by number; give a file of lines NAME LABEL");
    }
    if (number <= labels.by_number.size()) return labels.by_number[number - 1];
  } else {
    for (const std::string_view key : {std::string_view(name), stem(name)}) {
      const auto found = labels.by_name.find(key);
      if (found != labels.by_name.end()) return found->second;
    }
  }
  fail(Exit::data, path, "/", name, ": has no label in ", file);
}

/// The file of labels of a folder, or of its parent.
std::string find_labels(const std::string& folder) {
  std::error_code error;
  const fs::path whole = fs::weakly_canonical(folder, error);
  for (const fs::path& place : {whole, whole.parent_path()}) {
    for (const char* name : kLabelFiles) {
      if (is_file(place / name)) return (place / name).string();
    }
  }
  std::string list;
  for (const char* name : kLabelFiles) list += (list.empty() ? "" : ", ") + std::string(name);
  fail(Exit::data, folder, ": holds images and no class folders, and neither it nor its parent has",
       " one of ", list, "; say where the labels are: folder:", folder, ",labels=FILE");
}

/// ImageNet's validation images, all in one folder.
Records open_flat(const std::string& folder, const std::vector<std::string>& images,
                  const std::string& file) {
  const fs::path map = fs::path(file).parent_path() / "map_clsloc.txt";
  const ImageLabels labels = parse_labels(
      engine::read_file(file), is_file(map) ? engine::read_file(map.string()) : "", file);
  const auto names = std::make_shared<Names>();
  std::vector<std::int32_t> of;
  for (const std::string& name : images) {
    names->add(name);
    of.push_back(label_of(labels, name, folder, file));
  }
  return file_records(folder, names, std::move(of));
}

}  // namespace

Records open_folder(const std::string& rest) {
  constexpr std::string_view kLabels = ",labels=";
  const std::size_t comma = rest.find(kLabels);
  std::string folder = rest.substr(0, comma);
  while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
  const std::string file = comma == std::string::npos ? "" : rest.substr(comma + kLabels.size());
  const Listing listing = list(folder);
  if (!listing.folders.empty() && file.empty()) {
    if (!listing.images.empty()) {
      fail(Exit::data, folder, "/", listing.images.front(),
           ": an image beside class folders has no class; move it into one");
    }
    return open_classes(folder, listing.folders);
  }
  if (listing.images.empty()) {
    fail(Exit::data, folder, ": holds neither class folders nor JPEG or PNG images");
  }
  return open_flat(folder, listing.images, file.empty() ? find_labels(folder) : file);
}

}  // namespace tunas::data
