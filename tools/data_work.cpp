#include "tools/data_work.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "tools/data_sets.h"

namespace tunas::tools {

std::vector<Option> records_options() {
  Option word = data_option();
  word.role = Role::positional;
  return {word,
          {.name = "split",
           .fallback = "train",
           .help = "which half of a data set that comes in two (cifar10, fashion-mnist)",
           .choices = {"train", "test"}}};
}

Option all_workers_option() {
  return {.name = "workers",
          .type = Type::integer,
          .fallback = "0",
          .help = "threads; 0: all cores; results do not depend on it",
          .least = 0,
          .most = 1024};
}

int all_workers(const Config& config) {
  const long given = config.integer("workers");
  return given > 0 ? static_cast<int>(given)
                   : static_cast<int>(std::max(std::thread::hardware_concurrency(), 1u));
}

data::Split split_of(const Config& config) {
  return config.text("split") == "test" ? data::Split::test : data::Split::train;
}

data::Records open_records(const Config& config) {
  data::Records records = data::open_records(config.text("data"), split_of(config));
  const bool halves =
      records.spec.starts_with("fashion-mnist") || records.spec.starts_with("cifar10");
  require(halves || !config.from("split").starts_with("flag"), config.from("split"), ": ",
          records.spec, " does not come in two; leave it out");
  return records;
}

std::string report_text(const nlohmann::ordered_json& report) {
  return report.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

namespace {

class Crew {
 public:
  explicit Crew(const InOrder& work)
      : work_(work),
        window_(in_order_window(work.workers)),
        made_(static_cast<std::size_t>(window_)),
        errors_(static_cast<std::size_t>(window_)) {
    try {
      for (int i = 0; i < work.workers; ++i) threads_.emplace_back([this, i] { make(i); });
    } catch (const std::system_error& error) {  // fewer do it, too
      if (threads_.empty()) fail(Exit::memory, "cannot start a thread: ", error.what());
    }
  }
  ~Crew() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    room_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void take() {
    for (std::int64_t i = 0; i < work_.count; ++i) {
      const auto slot = static_cast<std::size_t>(i % window_);
      {
        std::unique_lock lock(mutex_);
        ready_.wait(lock, [&] { return made_[slot]; });
      }
      if (errors_[slot]) std::rethrow_exception(errors_[slot]);
      if (!work_.take(i, static_cast<int>(slot))) return;
      {
        const std::lock_guard lock(mutex_);
        made_[slot] = false;
        ++taken_;
      }
      room_.notify_one();
    }
  }

 private:
  void make(int worker) {
    std::unique_lock lock(mutex_);
    for (;;) {
      room_.wait(lock,
                 [&] { return stopping_ || next_ >= work_.count || next_ < taken_ + window_; });
      if (stopping_ || next_ >= work_.count) return;
      const std::int64_t index = next_++;
      const auto slot = static_cast<std::size_t>(index % window_);
      lock.unlock();
      try {
        work_.make(index, static_cast<int>(slot), worker);
      } catch (...) {
        errors_[slot] = std::current_exception();
      }
      lock.lock();
      made_[slot] = true;
      ready_.notify_one();
    }
  }

  const InOrder& work_;
  const std::int64_t window_;
  std::mutex mutex_;  // of all below; errors_[slot] belongs to whoever the slot is with
  std::condition_variable room_, ready_;
  std::int64_t next_ = 0, taken_ = 0;
  bool stopping_ = false;
  std::vector<char> made_;
  std::vector<std::exception_ptr> errors_;
  std::vector<std::thread> threads_;
};

}  // namespace

void in_order(const InOrder& work) { Crew(work).take(); }

RecordProgress::RecordProgress(std::shared_ptr<Terminal> terminal, std::int64_t records)
    : progress_(std::move(terminal), static_cast<long>(records)), records_(records) {}

void RecordProgress::done(const std::string& fields) {
  constexpr double kInterval = 0.1;
  ++done_;
  const auto now = std::chrono::steady_clock::now();
  const double seconds = std::chrono::duration<double>(now - since_).count();
  if (seconds < kInterval && done_ < records_) return;
  const auto images = static_cast<double>(done_ - shown_);
  progress_.step(static_cast<long>(done_), 1, {seconds / images}, [&] { return fields; });
  shown_ = done_;
  since_ = now;
}

}  // namespace tunas::tools
