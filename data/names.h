// Names: many short texts in one, so that a million of them cost their letters and 8 bytes each.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tunas::data {

class Names {
 public:
  Names() = default;
  /// `ends` rises and its last is the size of `text`.
  Names(std::string text, std::vector<std::uint64_t> ends)
      : text_(std::move(text)), ends_(std::move(ends)) {}

  void add(std::string_view name) {
    text_ += name;
    ends_.push_back(text_.size());
  }
  std::string_view operator[](std::size_t i) const {
    const std::uint64_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(text_).substr(begin, ends_[i] - begin);
  }
  std::size_t size() const { return ends_.size(); }

  const std::string& text() const { return text_; }
  const std::vector<std::uint64_t>& ends() const { return ends_; }

 private:
  std::string text_;
  std::vector<std::uint64_t> ends_;
};

}  // namespace tunas::data
