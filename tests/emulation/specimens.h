// Small kernels that the emulation is tested with. One that takes an `Is` does what its comment
// says where it is sound, and where it is broken makes the one mistake that the comment names.
#pragma once

#include "kernels/cuda_context.h"

namespace tunas::emulation {

enum class Is : unsigned char { sound, broken };

inline constexpr int kThreads = 64, kBlocks = 4;

// One block of kThreads, out[kThreads].

/// Turns kThreads numbers round through shared memory. Broken: no barrier between write and read.
void reverse(CudaContext& context, Is is, float* out);
/// Turns them round in place. Broken: no barrier between read and write back.
void reverse_in_place(CudaContext& context, Is is, float* out);
/// Counts in shared memory. Broken: every thread writes the one counter.
void count(CudaContext& context, Is is, float* out);
/// Broken: half of shared memory is read and never written.
void half_written(CudaContext& context, Is is, float* out);
/// Uses kThreads floats of dynamic shared memory. Broken: one more than the launch asked for.
void dynamic(CudaContext& context, Is is, float* out);
/// Broken: the second half of the threads never comes to the barrier.
void barrier_in_branch(CudaContext& context, Is is, float* out);
/// Sums of warps. Broken: only every second lane comes to the shuffle that names all.
void warp_sum(CudaContext& context, Is is, float* out);

// kBlocks blocks.

/// The first block fills shared memory. Broken: the others read what it left there.
void leftovers(CudaContext& context, Is is, float* out);
/// Sums of blocks. Broken: all write out[0].
void block_sums(CudaContext& context, Is is, float* out);
/// Broken: a block reads what its neighbour writes in the same launch.
void neighbours(CudaContext& context, Is is, float* out);

/// out[i] = value for i in [0, count).
void fill(CudaContext& context, float value, int count, float* out);
/// As many threads, blocks and bytes as are asked for; does nothing.
void launch_of(CudaContext& context, int threads, int blocks, std::size_t shared);

// Known patterns; warps of floats.

/// out[i] = in[step*i + offset], kBlocks blocks of kThreads.
void copy(CudaContext& context, const float* in, int step, int offset, float* out);
/// The same numbers 16 bytes at a time.
void copy_wide(CudaContext& context, const float* in, float* out);
/// Every block reads the same kThreads numbers twice.
void read_again(CudaContext& context, const float* in, float* out);
/// One warp writes 32 rows of 32 floats, `pitch` apart, and reads them column by column.
void transpose(CudaContext& context, int pitch, float* out);
/// One warp writes 128 floats and reads them back, 16 bytes a lane.
void wide_shared(CudaContext& context, float* out);

}  // namespace tunas::emulation
