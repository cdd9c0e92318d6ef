// tunas launch with quick verbs, and with one that never ends: it reads a pipe that the test holds
// open, and the pipe tells when its last reader is gone.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <csignal>
#include <utility>

#include "tests/tools/program.h"

namespace tunas::tools {
namespace {

constexpr int kWait = 20000;  // ms, of which a loaded machine may need some

class LaunchTest : public ProgramTest {
 protected:
  LaunchTest() { ::mkfifo(path("pipe").c_str(), 0600); }
  ~LaunchTest() override {
    if (launcher_ > 0) ::kill(launcher_, SIGKILL);
    if (pipe_ >= 0) ::close(pipe_);
  }

  /// Starts two ranks that wait for the pipe; returns when both do.
  void start_two(const std::string& options = "") {
    launcher_ = start("launch -n 2 " + options + " -- arch show --file " + path("pipe"));
    pipe_ = ::open(path("pipe").c_str(), O_WRONLY | O_CLOEXEC);  // once there is a reader
    ASSERT_GE(pipe_, 0);
    for (int ms = 0; ms < kWait && children(launcher_).size() < 2; ms += 5) pause();
    ASSERT_EQ(children(launcher_).size(), 2u);
  }

  int code() { return wait(std::exchange(launcher_, -1)); }
  bool no_reader_left() const {
    pollfd end = {pipe_, 0, 0};
    return ::poll(&end, 1, kWait) == 1 && (end.revents & POLLERR) != 0;
  }
  std::string said() const { return engine::read_file(path("err")); }

  pid_t launcher_ = -1;
  int pipe_ = -1;
};

TEST_F(LaunchTest, RankZeroIsHeardAndAllEndWell) {
  const Result alone = run("space list"), launched = run("launch -n 3 -- space list");
  EXPECT_EQ(launched.code, 0) << launched.err;
  EXPECT_EQ(launched.out, alone.out);
  EXPECT_EQ(launched.err, "");
}

TEST_F(LaunchTest, AnErrorOfTheVerbIsTheLaunchersCode) {
  const Result failed = run("launch -n 2 --max-restarts 3 -- arch show --file " + path("none"));
  EXPECT_EQ(failed.code, 3);
  EXPECT_NE(failed.err.find(path("none")), std::string::npos);
  EXPECT_NE(failed.err.find("of 2 ended with code 3\n"), std::string::npos) << failed.err;
}

TEST_F(LaunchTest, MistakesAreSaidOnce) {
  expect_refusal("launch -n 2", 2, {"needs a verb behind --"});
  expect_refusal("launch -n 2 --", 2, {"needs a verb behind --"});
  expect_refusal("launch -- space list", 2, {"--ranks"});
  expect_refusal("launch -n 0 -- space list", 2, {"0"});
  expect_refusal("launch -n 2 -- spce list", 2, {"'space list'"});
  expect_refusal("launch -n 2 -- space list --jsn", 2, {"--jsn", "--json"});
  expect_refusal("launch -n 2 --max-restarts 1 -- search --resume a/checkpoints/b", 2,
                 {"--max-restarts", "a/checkpoints/b", "--resume auto"});
  expect_refusal("launch -n 2 -- launch -n 2 -- space list", 2, {"no other tunas launch"});
}

TEST_F(LaunchTest, SignalsReachEveryRank) {
  for (const int signal : {SIGINT, SIGTERM, SIGUSR1}) {
    start_two("--max-restarts 3");  // which a signal from outside does not use
    ::kill(launcher_, signal);
    EXPECT_EQ(code(), 128 + signal);
    EXPECT_TRUE(no_reader_left());
    EXPECT_EQ(said().find("started again"), std::string::npos) << said();
    ::close(pipe_);
    pipe_ = -1;
  }
}

TEST_F(LaunchTest, NoRankOutlivesTheLauncher) {
  start_two();
  ::kill(launcher_, SIGKILL);
  EXPECT_EQ(code(), 1000 + SIGKILL);
  EXPECT_TRUE(no_reader_left());
}

TEST_F(LaunchTest, ARankThatWasKilledEndsAll) {
  start_two();
  ::kill(children(launcher_).front(), SIGKILL);
  EXPECT_EQ(code(), 128 + SIGKILL);
  EXPECT_TRUE(no_reader_left());
}

TEST_F(LaunchTest, ALostRankStartsAllAgainWithResume) {
  start_two("--max-restarts 3");
  for (const pid_t rank : children(launcher_)) ::kill(rank, SIGKILL);
  // The second attempt ends by the word appended, which this verb does not know: no loss.
  EXPECT_EQ(code(), 2);
  EXPECT_NE(said().find("--resume"), std::string::npos) << said();
  const std::size_t again = said().find("started again");
  ASSERT_NE(again, std::string::npos) << said();
  EXPECT_EQ(said().find("started again", again + 1), std::string::npos) << said();
}

}  // namespace
}  // namespace tunas::tools
