// Reading JSON that people write: one object and the words that name it in errors. Every mistake is
// Error(Exit::usage) with the place, the key, the value and what would be right.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tunas::search {

class JsonReader {
 public:
  using Json = nlohmann::json;
  using Names = std::vector<std::string>;

  /// `object` must outlive the reader.
  JsonReader(const Json& object, std::string where);

  const std::string& where() const { return where_; }
  /// Whether there is such a key; null stands for an absent one.
  bool has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  /// Error where the object has keys beside these.
  void allow(const Names& keys, const std::string& what) const;

  const Json& at(const char* key) const;
  /// A list; the readers of its entries are named where/key/0, where/key/1, ...
  const Json& list(const char* key) const;
  /// The object under `key`.
  JsonReader object(const char* key) const { return {at(key), where_ + "/" + key}; }

  int integer(const char* key, int fallback) const;
  double number(const char* key, double fallback) const;
  bool flag(const char* key, bool fallback) const;
  std::string string(const char* key) const;
  std::string string(const char* key, const std::string& fallback) const;
  /// Place of a string in `names`.
  std::size_t choice(const char* key, const Names& names) const;

  /// A single value or a list of them.
  std::vector<int> integers(const char* key) const;
  std::vector<double> numbers(const char* key) const;
  std::vector<int> flags(const char* key) const;

 private:
  int to_integer(const char* key, const Json& value) const;
  double to_number(const char* key, const Json& value) const;
  template <class T, class Read>
  std::vector<T> values(const char* key, const Read& read) const;

  const Json& object_;
  std::string where_;
};

/// The document. Error naming `where` and the line of the first mistake.
nlohmann::json parse_json(const std::string& text, const std::string& where);

}  // namespace tunas::search
