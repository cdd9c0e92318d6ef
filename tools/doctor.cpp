// tunas doctor: what this machine has, what this program was built with, what is missing and how to
// get it. Nothing here is an error: a missing part only means that some verbs or flags need it.
#include <dlfcn.h>
#include <fmt/format.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>

#include <fstream>
#include <thread>

#include "data/records.h"
#include "engine/device.h"
#include "kernels/dispatch.h"
#include "kernels/isa.h"
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

Finding memory() {
  struct sysinfo about {};
  ::sysinfo(&about);
  const double gib = static_cast<double>(about.mem_unit) / (1 << 30);
  return {"memory",
          fmt::format("{:.1f} GiB, {:.1f} GiB free", static_cast<double>(about.totalram) * gib,
                      static_cast<double>(about.freeram + about.bufferram) * gib),
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

/// The version that the NVIDIA driver reports, empty where there is no driver.
std::string cuda_driver() {
  void* library = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return "";
  int version = 0;
  const auto get = reinterpret_cast<int (*)(int*)>(::dlsym(library, "cuDriverGetVersion"));
  const bool known = get != nullptr && get(&version) == 0;
  ::dlclose(library);
  return known ? fmt::format("{}.{}", version / 1000, version % 1000 / 10) : "of unknown version";
}

Finding cuda() {
  const std::string driver = cuda_driver();
  Finding finding{"CUDA", kBuiltWithCuda ? "built in" : "not built in", ""};
  finding.state += driver.empty() ? ", no NVIDIA driver" : ", driver for CUDA " + driver;
  if (driver.empty()) {
    finding.remedy =
        "needs an NVIDIA GPU and its driver (Debian package nvidia-driver, section non-free)";
  } else if (!kBuiltWithCuda) {
    finding.remedy = "install CUDA Toolkit 13, then configure with -DTUNAS_CUDA=ON";
  }
  return finding;
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
          {"NCCL", "not used by this version", ""},
          {"Gloo", "not used by this version", ""},
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
