// The twins through cuBLASLt and cuDNN against the same loops in double as the own kernels. A twin
// that declines a shape leaves it to the own kernel; how many did is printed with the reason, and a
// library that declines everything fails its test.
#include "kernels/vendor/libraries.h"

#include <memory>

#include "kernels/error.h"
#include "tests/cuda/device.h"
#include "tests/cuda/problems.h"

namespace tunas::testing {
namespace {

TEST(CudaLibraries, AreRefusedWhereTheyWereNotBuiltIn) {
  EXPECT_NO_THROW(kernels::cuda::check_available(Kernels::own));
  EXPECT_NO_THROW(kernels::cuda::check_available(Kernels::automatic));
  if (kernels::cuda::kBuiltWithCudaLibraries) {
    EXPECT_NO_THROW(kernels::cuda::check_available(Kernels::library));
  } else {
    EXPECT_THROW(kernels::cuda::check_available(Kernels::library), Error);
  }
}

#ifdef TUNAS_CUDA_LIBRARIES
CudaContext& library() {
  static const OwnedCudaLibraries libraries = make_cuda_libraries(gpu().stream);
  static CudaContext context = [] {
    CudaContext c = gpu();
    c.kernels = Kernels::library;
    c.libraries = libraries.get();
    return c;
  }();
  return context;
}

/// Says at the end what the twins did meanwhile.
class Use {
 public:
  Use() : before_(library_use(*library().libraries)) {}
  ~Use() {
    const LibraryUse& use = library_use(*library().libraries);
    const long ran = use.ran - before_.ran, declined = use.declined - before_.declined;
    if (declined > 0) {
      std::printf("[ library  ] %ld calls ran, %ld were declined; last: %s\n", ran, declined,
                  use.why.c_str());
    }
    EXPECT_GT(ran, 0) << "every call was left to the own kernel: " << use.why;
  }

 private:
  LibraryUse before_;
};

TEST(CudaLibraries, Pointwise) {
  const Use use;
  for (const PointwiseProblem& p :
       {PointwiseProblem{1, 1, 8, 8, 8, 8},
        {2, 5, 16, 24, 64, 72, Act::none},
        {3, 7, 24, 24, 72, 96, Act::relu},
        {2, 9, 72, 80, 24, 40, Act::hard_swish},
        {2, 7, 960, 960, 160, 192},
        {2, 6, 40, 40, 120, 120, Act::none, false},
        {2, 6, 40, 40, 120, 120, Act::relu, true, false, false, true, Write::accumulate},
        {5, 7, 72, 72, 40, 48, Act::relu, true, true},
        {3, 1, 960, 960, 10, 10, Act::relu, true, false, true, false},
        {5, 1, 48, 64, 61, 61, Act::relu6, false, false, true, false}}) {
    run(library(), p);
    PointwiseProblem full = p;
    full.type = full.y_type = DType::f32;
    run(library(), full);
  }
}

TEST(CudaLibraries, PointwiseLogitsInFloat) {
  const Use use;
  PointwiseProblem p{128, 1, 1280, 1280, 1001, 1001, Act::hard_swish, false, false, true, false};
  p.y_type = DType::f32;
  run(library(), p);
}

TEST(CudaLibraries, Stem) {
  const Use use;
  for (const DType type : {DType::bf16, DType::f32}) {
    run(library(), ConvProblem{2, 32, 1, 16, 16, 3, 2, Padding::same, type});
    run(library(), ConvProblem{3, 33, 1, 32, 40, 3, 2, Padding::symmetric, type});
    run(library(), ConvProblem{1, 20, 2, 24, 24, 5, 1, Padding::same, type});
    run(library(), ConvProblem{2, 15, 3, 8, 64, 7, 2, Padding::symmetric, type});
  }
}

TEST(CudaLibraries, Depthwise) {
  const Use use;
  for (const DType type : {DType::bf16, DType::f32})
    for (const int k : {3, 5, 7})
      for (const int stride : {1, 2})
        for (const Padding padding : {Padding::same, Padding::symmetric}) {
          run(library(), DepthwiseProblem{2, 15, 13, 24, 40, k, stride, padding, Act::relu6, type});
          run(library(),
              DepthwiseProblem{2, 14, 16, 16, 16, k, stride, padding, Act::hard_swish, type});
        }
  DepthwiseProblem p{2, 10, 9, 40, 48, 3, 1, Padding::same, Act::relu};
  p.how = Write::accumulate;
  run(library(), p);
  p.stride = 2;
  run(library(), p);
  run(library(), DepthwiseProblem{1, 1, 1, 8, 8, 5, 1});
  run(library(), DepthwiseProblem{3, 7, 7, 960, 960, 5, 1, Padding::same, Act::none});
}

/// With a workspace of a few images, so that every loop over chunks takes several steps.
TEST(CudaLibraries, SmallChunks) {
  const Use use;
  CudaContext context = library();
  const std::size_t all = context.workspace_bytes;
  context.workspace_bytes = (std::size_t{48} << 20) + (std::size_t{24} << 10);
  ASSERT_LT(context.workspace_bytes, all);
  run(context, PointwiseProblem{7, 7, 40, 48, 24, 24, Act::hard_swish});
  run(context, PointwiseProblem{7, 7, 40, 48, 24, 24, Act::relu, true, true});
  PointwiseProblem p{7, 7, 40, 48, 24, 24};
  p.how = Write::accumulate;
  run(context, p);
  for (const Padding padding : {Padding::same, Padding::symmetric}) {
    run(context, ConvProblem{5, 24, 1, 16, 24, 3, 2, padding, DType::bf16});
    run(context, DepthwiseProblem{7, 10, 10, 24, 32, 3, 2, padding});
    DepthwiseProblem q{7, 10, 10, 24, 32, 5, 1, padding};
    q.how = Write::accumulate;
    run(context, q);
  }
}
#else
TEST(CudaLibraries, Twins) {
  GTEST_SKIP() << "this build has no cuBLASLt and cuDNN, so their twins are not tested";
}
#endif

}  // namespace
}  // namespace tunas::testing
