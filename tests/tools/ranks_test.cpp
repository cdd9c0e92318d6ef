// Who a process is among the ranks of its run: every launcher's variables, and nonsense in them.
#include "tools/ranks.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <map>

#include "engine/gloo.h"
#include "tests/engine/processes.h"

namespace tunas::tools {
namespace {

using Set = std::map<std::string, std::string>;

Ranks read(const Set& set) {
  return read_ranks([&](const char* name) -> const char* {
    const auto found = set.find(name);
    return found == set.end() ? nullptr : found->second.c_str();
  });
}

struct Case {
  const char* what;
  Set set;
  Ranks ranks;
};

Set srun(const char* rank, const char* ranks, const char* local) {
  return {{"SLURM_JOB_ID", "7"},  {"SLURM_NTASKS", ranks}, {"SLURM_STEP_NUM_TASKS", ranks},
          {"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", rank},  {"SLURM_LOCALID", local}};
}

Set with(Set set, const Set& more) {
  for (const auto& [name, value] : more) set[name] = value;
  return set;
}

TEST(RanksTest, EveryLauncherIsUnderstood) {
  const Case cases[] = {
      {"nothing", {}, {0, 1, 0}},
      {"torchrun", {{"RANK", "5"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}}, {5, 8, 1}},
      {"without a local rank", {{"RANK", "1"}, {"WORLD_SIZE", "2"}}, {1, 2, 0}},
      {"one rank", {{"RANK", "0"}, {"WORLD_SIZE", "1"}, {"LOCAL_RANK", "0"}}, {0, 1, 0}},
      {"srun", srun("3", "4", "1"), {3, 4, 1}},
      {"sbatch without srun",
       {{"SLURM_JOB_ID", "7"},
        {"SLURM_NTASKS", "4"},
        {"SLURM_PROCID", "0"},
        {"SLURM_LOCALID", "0"}},
       {0, 1, 0}},
      {"the batch script's own step",
       with(srun("0", "4", "0"), {{"SLURM_STEP_ID", "4294967291"}}),
       {0, 1, 0}},
      {"srun -n 1 in a job of four", with(srun("0", "1", "0"), {{"SLURM_NTASKS", "4"}}), {0, 1, 0}},
      {"mpirun",
       {{"OMPI_COMM_WORLD_RANK", "2"},
        {"OMPI_COMM_WORLD_SIZE", "4"},
        {"OMPI_COMM_WORLD_LOCAL_RANK", "0"}},
       {2, 4, 0}},
      {"tunas launch in an srun step of one",
       with(srun("0", "1", "0"), {{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "1"}}),
       {1, 2, 1}},
      {"mpirun in a Slurm job",
       with(srun("1", "2", "0"), {{"OMPI_COMM_WORLD_RANK", "6"},
                                  {"OMPI_COMM_WORLD_SIZE", "8"},
                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "2"}}),
       {6, 8, 2}},
  };
  for (const Case& one : cases) {
    const Ranks ranks = read(one.set);
    EXPECT_EQ(ranks.rank, one.ranks.rank) << one.what;
    EXPECT_EQ(ranks.size, one.ranks.size) << one.what;
    EXPECT_EQ(ranks.local, one.ranks.local) << one.what;
  }
}

TEST(RanksTest, NonsenseIsNamed) {
  const std::pair<Set, std::string> cases[] = {
      {{{"RANK", "1"}}, "WORLD_SIZE"},
      {{{"WORLD_SIZE", "2"}}, "RANK"},
      {{{"RANK", "2"}, {"WORLD_SIZE", "2"}}, "RANK=2"},
      {{{"RANK", "-1"}, {"WORLD_SIZE", "2"}}, "RANK=-1"},
      {{{"RANK", "one"}, {"WORLD_SIZE", "2"}}, "RANK=one"},
      {{{"RANK", ""}, {"WORLD_SIZE", "2"}}, "RANK"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "0"}}, "WORLD_SIZE=0"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "99999999999999999999"}}, "WORLD_SIZE=9"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2 "}}, "WORLD_SIZE=2 "},
      {{{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"LOCAL_RANK", "2"}}, "LOCAL_RANK=2"},
      {srun("4", "4", "0"), "SLURM_PROCID=4"},
      {{{"OMPI_COMM_WORLD_RANK", "0"}}, "OMPI_COMM_WORLD_SIZE"},
  };
  for (const auto& [set, part] : cases) {
    try {
      read(set);
      ADD_FAILURE() << "accepted, without " << part;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::usage);
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
    }
  }
}

Verb verb() { return {"test", "", rank_options(), nullptr}; }

TEST(RanksTest, AloneNothingIsOpened) {
  const std::string folder = testing::TempDir() + "tunas_alone_" + std::to_string(::getpid());
  const Verb alone = verb();
  const auto comm = open_comm(Config(alone, {}, {}), RunFolder(folder, RunFolder::Existing::refuse),
                              engine::Device::cpu(1), 7);
  EXPECT_EQ(comm->size(), 1);
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(RanksTest, RanksMeetInTheRunFolder) {
  if (!engine::Gloo::built_in()) GTEST_SKIP() << "needs Gloo";
  const std::string folder = testing::TempDir() + "tunas_ranks_" + std::to_string(::getpid());
  engine::Processes processes(3, [&](int rank) {
    ::setenv("RANK", std::to_string(rank).c_str(), 1);
    ::setenv("WORLD_SIZE", "3", 1);
    const Verb three = verb();
    const Config config(three, {{"deterministic", "off"}, {"peer-timeout", "30"}}, {});
    // The last to look finds a folder in which the others wait already.
    std::this_thread::sleep_for(std::chrono::milliseconds(100 * rank));
    const RunFolder run(folder, RunFolder::Existing::refuse);
    const engine::Device device = engine::Device::cpu(1);
    const auto comm = open_comm(config, run, device, 3);
    require(comm->rank() == rank && comm->size() == 3, comm->rank(), " of ", comm->size());
    float sum = 1;
    comm->start_sum(&sum, 1);
    comm->finish_sums();
    require(sum == 3, sum);
  });
  for (int r = 0; r < 3; ++r) EXPECT_EQ(processes.code(r), 0) << processes.said(r);
  std::filesystem::remove_all(folder);
}

TEST(RanksTest, SharesThatAreNoTreeAreRefusedBeforeAnybodyIsWaitedFor) {
  engine::Processes processes(1, [&](int) {
    ::setenv("RANK", "0", 1);
    ::setenv("WORLD_SIZE", "3", 1);
    const Verb three = verb();
    open_comm(Config(three, {}, {}),
              RunFolder(testing::TempDir() + "tunas_no_run", RunFolder::Existing::refuse),
              engine::Device::cpu(1), 12);
  });
  EXPECT_EQ(processes.code(0), 2);
  EXPECT_NE(processes.said(0).find("12 shards a step cannot be shared by 3 ranks as parts of one "
                                   "binary tree; use 1 rank, or --deterministic off"),
            std::string::npos)
      << processes.said(0);
}

}  // namespace
}  // namespace tunas::tools
