// tunas doctor: what this machine has, what this program was built with, what is missing and how to
// get it. Nothing here is an error: a missing part only means that some verbs or flags need it.
#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <fstream>
#include <thread>

#include "data/records.h"
#include "engine/device.h"
#include "engine/gloo.h"
#include "engine/nccl.h"
#include "kernels/dispatch.h"
#include "kernels/isa.h"
#include "kernels/runtime.h"
#include "kernels/vendor/libraries.h"
#include "tools/selection.h"
#ifdef TUNAS_ONEDNN
#include <dnnl.h>
#endif

namespace tunas::tools {
namespace {

struct Finding {
  std::string item;
  std::string state;   // what is there, or why it is not
  std::string remedy;  // empty: nothing is missing
};

/// "model name" of the first processor; the machine type where the kernel names none (64-bit Arm).
std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  utsname system{};
  ::uname(&system);
  return system.machine;
}

Finding cores() {
  return {"cores",
          fmt::format("{} in the machine, {} for this process", std::thread::hardware_concurrency(),
                      engine::Device::cpu().threads()),
          ""};
}

double gib(std::size_t bytes) { return static_cast<double>(bytes) / (1 << 30); }

Finding memory() {
  struct sysinfo about {};
  ::sysinfo(&about);
  return {"memory",
          fmt::format("{:.1f} GiB, {:.1f} GiB free", gib(about.totalram * about.mem_unit),
                      gib((about.freeram + about.bufferram) * about.mem_unit)),
          ""};
}

Finding onednn() {
#ifdef TUNAS_ONEDNN
  const dnnl_version_t* version = ::dnnl_version();
  return {"oneDNN", fmt::format("{}.{}.{}", version->major, version->minor, version->patch), ""};
#else
  return {"oneDNN", "not built in", "Debian package libdnnl-dev, then configure and build again"};
#endif
}

/// What --device auto finds.
Finding cuda() {
  std::string why;
  const int count = engine::Device::gpus(why);
  if (count > 0) {
    const kernels::cuda::Gpu gpu = kernels::cuda::describe_gpu(0);
    return {"CUDA",
            fmt::format("{} x {}, compute capability {}.{}, {:.1f} GiB, {:.1f} GiB free", count,
                        gpu.name, gpu.major, gpu.minor, gib(gpu.bytes), gib(gpu.free_bytes)),
            ""};
  }
  if (!kBuiltWithCuda) {
    return {"CUDA", "not built in", "install CUDA Toolkit 13, then configure and build again"};
  }
  return {"CUDA", "built in; " + why,
          "needs an NVIDIA GPU and its driver (Debian package nvidia-driver, section non-free)"};
}

Finding cuda_libraries() {
  if (kernels::cuda::kBuiltWithCudaLibraries) return {"cuBLASLt, cuDNN", "built in", ""};
  return {"cuBLASLt, cuDNN", "not built in",
          "only --kernels library needs them: install NVIDIA's libcublas-dev-13-0 and "
          "libcudnn9-dev-cuda-13, then configure and build again"};
}

Finding gloo() {
  if (engine::Gloo::built_in()) return {"Gloo", "built in", ""};
  return {"Gloo", "not built in",
          "only runs of several ranks need it: install the Debian package libgloo-dev, then "
          "configure and build again"};
}

Finding nccl() {
  if (engine::Nccl::built_in()) return {"NCCL", "built in", ""};
  return {"NCCL", "not built in",
          "only runs on several GPUs need it: install CUDA Toolkit 13, Gloo and NVIDIA's Debian "
          "package libnccl-dev, then configure and build again"};
}

Finding fashion_mnist() {
  try {
    const data::Records records = data::open_records("fashion-mnist", data::Split::train);
    return {"fashion-mnist", fmt::format("{} images in {}", records.size(), data::kFashionMnist),
            ""};
  } catch (const Error& error) {
    return {"fashion-mnist", error.what(), "Debian package dataset-fashion-mnist"};
  }
}

std::vector<Finding> examine() {
  return {{"tunas", TUNAS_VERSION, ""},
          {"processor", cpu_model(), ""},
          {"instructions", name(kernels::cpu::isa()), ""},
          cores(),
          memory(),
          onednn(),
          cuda(),
          cuda_libraries(),
          gloo(),
          nccl(),
          fashion_mnist()};
}

Exit run(const Config& config) {
  const std::vector<Finding> findings = examine();
  std::string text;
  if (config.flag("json")) {
    nlohmann::ordered_json all = nlohmann::ordered_json::object();
    for (const Finding& finding : findings) {
      all[finding.item] = {
          {"state", finding.state},
          {"remedy", finding.remedy.empty() ? nlohmann::ordered_json()
                                            : nlohmann::ordered_json(finding.remedy)}};
    }
    text = all.dump(2) + "\n";
  } else {
    for (const Finding& finding : findings) {
      text += fmt::format("{:<14}{}\n", finding.item, finding.state);
      if (!finding.remedy.empty()) text += fmt::format("{:<14}  -> {}\n", "", finding.remedy);
    }
  }
  std::fputs(text.c_str(), stdout);
  return Exit::ok;
}

}  // namespace

Verb doctor_verb() {
  return {
      "doctor", "what this machine has, what was built in, what is missing", {json_option()}, run};
}

}  // namespace tunas::tools
