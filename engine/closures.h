// The closures of a pass, last in, first out, in memory that is kept between passes: once it holds
// the longest pass, recording allocates nothing.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace tunas::engine {

/// Of closures called with an Argument&, which may capture trivially destructible values only.
template <class Argument>
class Closures {
 public:
  /// A closure and the layer that recorded it.
  struct Entry {
    void (*run)(void* closure, Argument& argument);
    void* closure;
    const char* layer;
  };

  template <class Closure>
  void push(const Closure& closure, const char* layer) {
    static_assert(std::is_trivially_destructible_v<Closure>);
    void* at = place(sizeof(Closure), alignof(Closure));
    new (at) Closure(closure);
    const auto run = [](void* self, Argument& a) { (*static_cast<Closure*>(self))(a); };
    entries_.push_back({run, at, layer});
  }
  const Entry& back() const { return entries_.back(); }
  void pop_back() { entries_.pop_back(); }
  int size() const { return static_cast<int>(entries_.size()); }
  void reserve(std::size_t count) { entries_.reserve(count); }
  void clear() {
    entries_.clear();
    chunk_ = offset_ = 0;
  }

 private:
  static constexpr std::size_t kChunk = std::size_t{64} << 10;

  void* place(std::size_t bytes, std::size_t align) {
    offset_ = (offset_ + align - 1) / align * align;
    if (chunk_ < chunks_.size() && offset_ + bytes > kChunk) {
      ++chunk_;
      offset_ = 0;
    }
    if (chunk_ == chunks_.size()) chunks_.push_back(std::make_unique<char[]>(kChunk));
    void* at = chunks_[chunk_].get() + offset_;
    offset_ += bytes;
    return at;
  }

  std::vector<Entry> entries_;
  std::vector<std::unique_ptr<char[]>> chunks_;
  std::size_t chunk_ = 0, offset_ = 0;
};

}  // namespace tunas::engine
