// Probe: does this device's compiler work, and can the device do what the reduction needs?
// One work-item multiplies two 64-bit numbers and adds the product to `sum`: atomically on a GPU, where work-groups meet
// in global memory. On a CPU device no two work-items of the reduction write to the same word.
// -D ATOMIC: use cl_khr_int64_base_atomics.

#ifdef ATOMIC
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
#endif

kernel void probe(global ulong *sum,   // one number
                  const ulong factor)  // its square is added
{
#ifdef ATOMIC
    atom_add(sum, factor * factor);
#else
    sum[0] += factor * factor;
#endif
}
