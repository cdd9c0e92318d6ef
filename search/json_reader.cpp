#include "search/json_reader.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/error.h"
#include "search/nearest_name.h"

namespace tunas::search {

using Json = JsonReader::Json;

JsonReader::JsonReader(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  if (!object.is_object()) {
    fail(Exit::usage, where_, ": ", object.dump(), " is not an object; write {...}");
  }
}

void JsonReader::allow(const Names& keys, const std::string& what) const {
  for (const auto& item : object_.items()) {
    const std::string& key = item.key();
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      fail(Exit::usage, where_, ": \"", key, "\" is not a key of ", what, "; did you mean \"",
           nearest_name(key, keys), "\"?");
    }
  }
}

const Json& JsonReader::at(const char* key) const {
  require(has(key), where_, ": \"", key, "\" is missing");
  return object_[key];
}

const Json& JsonReader::list(const char* key) const {
  const Json& value = at(key);
  require(value.is_array(), where_, ": ", key, " is not a list");
  return value;
}

int JsonReader::integer(const char* key, int fallback) const {
  return has(key) ? to_integer(key, object_[key]) : fallback;
}

double JsonReader::number(const char* key, double fallback) const {
  return has(key) ? to_number(key, object_[key]) : fallback;
}

bool JsonReader::flag(const char* key, bool fallback) const {
  if (!has(key)) return fallback;
  const Json& value = object_[key];
  if (!value.is_boolean()) {
    fail(Exit::usage, where_, ": ", key, " is ", value.dump(), ", not true or false");
  }
  return value.get<bool>();
}

std::string JsonReader::string(const char* key) const {
  const Json& value = at(key);
  if (!value.is_string()) {
    fail(Exit::usage, where_, ": ", key, " is ", value.dump(), ", not a string");
  }
  return value.get<std::string>();
}

std::string JsonReader::string(const char* key, const std::string& fallback) const {
  return has(key) ? string(key) : fallback;
}

std::size_t JsonReader::choice(const char* key, const Names& names) const {
  const std::string name = string(key);
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) {
    fail(Exit::usage, where_, ": ", key, " \"", name, "\" is unknown; did you mean \"",
         nearest_name(name, names), "\"?");
  }
  return static_cast<std::size_t>(found - names.begin());
}

template <class T, class Read>
std::vector<T> JsonReader::values(const char* key, const Read& read) const {
  const Json& value = at(key);
  if (!value.is_array()) return {read(value)};
  std::vector<T> all;
  for (const Json& v : value) all.push_back(read(v));
  return all;
}

std::vector<int> JsonReader::integers(const char* key) const {
  return values<int>(key, [&](const Json& v) { return to_integer(key, v); });
}

std::vector<double> JsonReader::numbers(const char* key) const {
  return values<double>(key, [&](const Json& v) { return to_number(key, v); });
}

std::vector<int> JsonReader::flags(const char* key) const {
  return values<int>(key, [&](const Json& v) {
    if (!v.is_boolean()) {
      fail(Exit::usage, where_, ": ", key, " holds ", v.dump(), ", not true or false");
    }
    return v.get<bool>() ? 1 : 0;
  });
}

int JsonReader::to_integer(const char* key, const Json& value) const {
  if (!(value.is_number_integer() && std::abs(value.get<double>()) < 1e6)) {
    fail(Exit::usage, where_, ": ", key, " is ", value.dump(), ", not an integer below a million");
  }
  return value.get<int>();
}

double JsonReader::to_number(const char* key, const Json& value) const {
  if (!value.is_number()) {
    fail(Exit::usage, where_, ": ", key, " is ", value.dump(), ", not a number");
  }
  return value.get<double>();
}

Json parse_json(const std::string& text, const std::string& where) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& e) {
    const auto end = text.begin() + static_cast<std::ptrdiff_t>(std::min(e.byte, text.size()));
    fail(Exit::usage, where, ", line ", 1 + std::count(text.begin(), end, '\n'),
         ": not valid JSON; look for a missing comma, quote or bracket just before");
  } catch (const Json::out_of_range&) {
    fail(Exit::usage, where, ": a number is too large to be read");
  }
}

}  // namespace tunas::search
