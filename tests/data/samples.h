// Made-up files for the data tests: tars of made-up images, a folder that cleans up after itself.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "kernels/error.h"
#include "tests/data/images.h"
#include "tests/support/shared_data.h"

namespace tunas::data::testing {

class Folder {
 public:
  Folder() {
    std::string name = std::filesystem::temp_directory_path() / "tunas-data-XXXXXX";
    if (!mkdtemp(name.data())) fail(Exit::data, name, ": cannot be made");
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::string write(const std::string& name, const Bytes& bytes) const {
    std::ofstream out(path(name), std::ios::binary);
    out.write(reinterpret_cast<const char*>(bytes.data()),
              static_cast<std::streamsize>(bytes.size()));
    if (!out.flush()) fail(Exit::data, path(name), ": cannot be written");
    return path(name);
  }

 private:
  std::string path_;
};

inline Bytes bytes_of(const std::string& text) { return {text.begin(), text.end()}; }

/// Appends one member to an archive.
inline void add_member(Bytes& tar, const std::string& name, const Bytes& contents,
                       char type = '0') {
  char header[512] = {};
  std::snprintf(header, 100, "%s", name.c_str());
  std::snprintf(header + 100, 8, "%07o", 0644);
  std::snprintf(header + 124, 12, "%011lo", static_cast<unsigned long>(contents.size()));
  std::snprintf(header + 136, 12, "%011o", 0);
  header[156] = type;
  std::snprintf(header + 257, 8, "ustar");
  header[263] = header[264] = '0';
  unsigned sum = 8 * ' ';
  for (const char c : header) sum += static_cast<unsigned char>(c);
  std::snprintf(header + 148, 8, "%06o", sum);
  tar.insert(tar.end(), header, header + 512);
  tar.insert(tar.end(), contents.begin(), contents.end());
  tar.resize((tar.size() + 511) / 512 * 512);
}

inline void end_archive(Bytes& tar) { tar.resize(tar.size() + 1024); }

/// A tar of `count` small JPEGs, keys k0, k1, ..., labels index mod 5; `damage(i, jpeg)` first.
template <class Damage>
Bytes make_tar(int count, const Damage& damage) {
  Bytes tar;
  for (int i = 0; i < count; ++i) {
    Bytes jpeg = make_jpeg({.h = 40 + i % 7 * 8, .w = 56 + i % 5 * 8, .seed = i});
    damage(i, jpeg);
    std::string key = "k";
    key += std::to_string(i);
    add_member(tar, key + ".jpg", jpeg);
    add_member(tar, key + ".cls", bytes_of(std::to_string(i % 5)));
  }
  end_archive(tar);
  return tar;
}
inline Bytes make_tar(int count) {
  return make_tar(count, [](int, Bytes&) {});
}

/// The sentence `action` fails with; fails the test unless it is an Error with this exit code.
template <class Action>
std::string sentence(const Action& action, Exit code = Exit::data) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(code)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

#define EXPECT_SAYS(sentence, part)                                                            \
  do {                                                                                         \
    const std::string said_ = (sentence);                                                      \
    EXPECT_NE(said_.find(part), std::string::npos) << "\"" << said_ << "\" lacks: " << (part); \
  } while (false)

}  // namespace tunas::data::testing
