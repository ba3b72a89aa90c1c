/* Counts of one frame in cells of pixels: radial groups x azimuthal sectors.
 *
 * Built with -D PIXEL=<uchar|ushort|uint> -D CELLS=<cells> -D COPIES=<histograms>; after signal.cl with its constants
 * where signals are signed: then the sums are two's complement.
 *
 * The pixels of the cells come as runs: pixels that follow each other in one cell. A work-item takes some runs, one
 * after another, reads eight pixels at once, and adds each run to a histogram at once: its own (COPIES = work-items), or
 * one that all share through atomics (COPIES = 1). Everything is an integer: the order does not matter.
 */

#if COPIES == 1
#pragma OPENCL EXTENSION cl_khr_int64_base_atomics : enable
#define ADD(target, value) atom_add(&(target), value)
#else
#define ADD(target, value) (target) += (value)
#endif

ulong sum_of_wide(const ulong8 v) {
    const ulong4 a = v.lo + v.hi;
    const ulong2 b = a.lo + a.hi;
    return b.x + b.y;
}

#ifdef SIGNED
#define DARK , global const int *dark /* of a pixel in quanta; seven beyond the last must be readable */
#else
#define DARK
#endif

kernel void sum_runs(
    global const PIXEL *frames,      /* counts; seven values beyond the last frame must be readable */
    const ulong first_pixel,         /* of the frame */
    global const uint *run_start,    /* first pixel of each run */
    global const uint *run_end,      /* the one after its last */
    global const ushort *run_cell,   /* its cell, < CELLS */
    const uint n_runs,
    const uint limit,                /* largest valid value */
    const uint4 dummies,             /* values that are invalid, repeated if fewer than four */
    global ulong *sums               /* [COPIES][CELLS], zero before */
    DARK)
{
    const uint item = get_global_id(0), items = get_global_size(0);
    const uint stretch = (n_runs + items - 1) / items, first = item * stretch, last = min(n_runs, first + stretch);
    global const PIXEL *frame = frames + first_pixel;
    global ulong *own = sums + item % COPIES * CELLS;
    for (uint run = first; run < last; run++) {
        const uint end = run_end[run];
        ulong8 sum = (ulong8)0;
        for (uint i = run_start[run]; i < end; i += 8) {
#ifdef SIGNED
            const uint8 raw = RAW(8, vload8(0, frame + i));
            const uint8 s = signal_of8(raw, vload8(0, dark + i));
            const int8 counts = ~is_invalid8(raw, limit, dummies) & ((uint8)(0, 1, 2, 3, 4, 5, 6, 7) < (uint8)(end - i));
            sum += as_ulong8(convert_long8(as_int8(s) & counts));
#else
            const uint8 v = convert_uint8(vload8(0, frame + i));
            const int8 counts = (v <= (uint8)limit) & (v != (uint8)dummies.x) & (v != (uint8)dummies.y) &
                                (v != (uint8)dummies.z) & (v != (uint8)dummies.w) &
                                ((uint8)(0, 1, 2, 3, 4, 5, 6, 7) < (uint8)(end - i));
            sum += convert_ulong8(v & as_uint8(counts));
#endif
        }
        ADD(own[run_cell[run]], sum_of_wide(sum));
    }
}
