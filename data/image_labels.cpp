// Files of labels for a folder of images; data/folder.h says which.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <functional>

#include "data/folder.h"
#include "kernels/error.h"

namespace tunas::data {
namespace {

constexpr std::size_t kImageNet = 1000;

/// "n01440764"
bool is_synset(std::string_view word) {
  return word.size() == 9 && word[0] == 'n' &&
         std::all_of(word.begin() + 1, word.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool parse_number(std::string_view word, std::int64_t& number) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  return error == std::errc() && end == word.data() + word.size();
}

/// The words of a line, parted by blanks, tabs and `also`.
std::vector<std::string_view> words(std::string_view line, char also = ' ') {
  const char blanks[] = {' ', '\t', '\r', also, '\0'};
  std::vector<std::string_view> found;
  for (;;) {
    const std::size_t begin = line.find_first_not_of(blanks);
    if (begin == std::string_view::npos) return found;
    line.remove_prefix(begin);
    const std::size_t end = std::min(line.find_first_of(blanks), line.size());
    found.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
}

struct Line {
  std::string_view text;
  std::size_t number = 0;  // from 1
};

/// Those that are neither blank nor a comment.
std::vector<Line> lines(std::string_view text) {
  std::vector<Line> found;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const std::vector<std::string_view> parts = words(line);
    if (!parts.empty() && !parts[0].starts_with('#')) found.push_back({line, number});
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return found;
}

/// Synsets in order; a synset's label is its place.
class SynsetOrder {
 public:
  SynsetOrder(std::vector<std::string_view> synsets, const std::string& path)
      : sorted_(std::move(synsets)) {
    std::sort(sorted_.begin(), sorted_.end());
    sorted_.erase(std::unique(sorted_.begin(), sorted_.end()), sorted_.end());
    if (sorted_.size() != kImageNet) {
      fail(Exit::data, path, ": names ", sorted_.size(), " synsets, not ImageNet's ", kImageNet,
           ", so their labels are unknown; give a file of lines NAME LABEL");
    }
  }
  std::int32_t label(std::string_view synset) const {
    const auto at = std::lower_bound(sorted_.begin(), sorted_.end(), synset);
    return static_cast<std::int32_t>(at - sorted_.begin());
  }

 private:
  std::vector<std::string_view> sorted_;
};

/// One file of labels under examination.
class LabelFile {
 public:
  LabelFile(std::string_view text, std::string_view map, const std::string& path)
      : lines_(lines(text)), map_(map), path_(path) {}

  ImageLabels read() const {
    if (lines_.empty()) fail(Exit::data, path_, ": holds no labels");
    const std::string_view first = lines_[0].text;
    const std::vector<std::string_view> parts = words(first);
    std::int64_t number = 0;
    if (first.starts_with("ImageId,")) return read_csv();
    if (parts.size() == 2 && parse_number(parts[1], number)) return read_names();
    if (parts.size() == 1 && is_synset(parts[0])) return read_synsets();
    if (parts.size() == 1 && parse_number(parts[0], number)) return read_ids();
    refuse(lines_[0],
           "neither NAME LABEL nor NAME,SYNSET nor a synset as n01440764 nor an ILSVRC2012_ID");
  }

 private:
  [[noreturn]] void refuse(const Line& line, const char* reason) const {
    std::string shown(line.text.substr(0, 40));
    for (char& c : shown) c = c < ' ' || c > '~' ? '?' : c;
    fail(Exit::data, path_, " line ", line.number, ": \"", shown, "\" is ", reason);
  }

  void add(ImageLabels& labels, const Line& line, std::string_view name, std::int32_t label) const {
    name.remove_prefix(name.rfind('/') + 1);
    if (!labels.by_name.emplace(name, label).second) refuse(line, "an image named twice");
  }

  ImageLabels read_names() const {
    ImageLabels labels;
    for (const Line& line : lines_) {
      const std::vector<std::string_view> parts = words(line.text);
      std::int64_t label = 0;
      if (parts.size() != 2 || !parse_number(parts[1], label)) refuse(line, "not NAME LABEL");
      add(labels, line, parts[0],
          check_label(label, path_ + " line " + std::to_string(line.number)));
    }
    return labels;
  }

  ImageLabels read_csv() const {
    std::vector<std::string_view> synsets;
    std::vector<std::string_view> names;
    for (std::size_t i = 1; i < lines_.size(); ++i) {
      const std::vector<std::string_view> parts = words(lines_[i].text, ',');
      if (parts.size() < 2 || !is_synset(parts[1])) refuse(lines_[i], "not NAME,SYNSET");
      names.push_back(parts[0]);
      synsets.push_back(parts[1]);
    }
    const SynsetOrder order(synsets, path_);
    ImageLabels labels;
    for (std::size_t i = 0; i < names.size(); ++i) {
      add(labels, lines_[i + 1], names[i], order.label(synsets[i]));
    }
    return labels;
  }

  ImageLabels read_synsets() const {
    std::vector<std::string_view> synsets;
    for (const Line& line : lines_) {
      const std::vector<std::string_view> parts = words(line.text);
      if (parts.size() != 1 || !is_synset(parts[0])) refuse(line, "not one synset");
      synsets.push_back(parts[0]);
    }
    const SynsetOrder order(synsets, path_);
    ImageLabels labels;
    for (const std::string_view synset : synsets) labels.by_number.push_back(order.label(synset));
    return labels;
  }

  ImageLabels read_ids() const {
    if (map_.empty()) {
      fail(Exit::data, path_,
           ": its ILSVRC2012_IDs are not in the order of the synsets, so labels ",
           "cannot be told; put map_clsloc.txt beside it, or give Caffe's val.txt, Kaggle's ",
           "LOC_val_solution.csv or imagenet_2012_validation_synset_labels.txt as labels=FILE");
    }
    const std::vector<std::int32_t> label_of = parse_id_map(map_, "map_clsloc.txt beside " + path_);
    ImageLabels labels;
    for (const Line& line : lines_) {
      const std::vector<std::string_view> parts = words(line.text);
      std::int64_t id = 0;
      if (parts.size() != 1 || !parse_number(parts[0], id) || id < 1 ||
          id > static_cast<std::int64_t>(kImageNet)) {
        refuse(line, "no ILSVRC2012_ID of 1 to 1000");
      }
      labels.by_number.push_back(label_of[static_cast<std::size_t>(id - 1)]);
    }
    return labels;
  }

  std::vector<Line> lines_;
  std::string_view map_;
  const std::string& path_;
};

}  // namespace

ImageLabels parse_labels(std::string_view text, std::string_view map, const std::string& path) {
  return LabelFile(text, map, path).read();
}

std::vector<std::int32_t> parse_id_map(std::string_view text, const std::string& path) {
  std::vector<std::string_view> synsets(kImageNet);
  for (const Line& line : lines(text)) {
    const std::vector<std::string_view> parts = words(line.text);
    std::int64_t id = 0;
    if (parts.size() < 2 || !is_synset(parts[0]) || !parse_number(parts[1], id) || id < 1 ||
        id > static_cast<std::int64_t>(kImageNet) ||
        !synsets[static_cast<std::size_t>(id - 1)].empty()) {
      fail(Exit::data, path, " line ", line.number,
           ": is not SYNSET ID NAME with ids 1 to 1000, each once");
    }
    synsets[static_cast<std::size_t>(id - 1)] = parts[0];
  }
  // An id without synset counts as one synset too many or too few.
  const SynsetOrder order(synsets, path);
  std::vector<std::int32_t> labels;
  for (const std::string_view synset : synsets) {
    if (synset.empty()) fail(Exit::data, path, ": an id of 1 to 1000 is missing");
    labels.push_back(order.label(synset));
  }
  return labels;
}

}  // namespace tunas::data
