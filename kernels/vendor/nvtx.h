// NVTX: ranges that NVIDIA's tools show (`nsys profile tunas train ...`). The library is its header
// and does nothing until a tool is attached; builds without CUDA have none.
#pragma once

#if defined(TUNAS_CUDA) && __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>

namespace tunas {

inline void nvtx_push(const char* name) { nvtxRangePushA(name); }
inline void nvtx_pop() { nvtxRangePop(); }

}  // namespace tunas

#else

namespace tunas {

inline void nvtx_push(const char*) {}
inline void nvtx_pop() {}

}  // namespace tunas

#endif
