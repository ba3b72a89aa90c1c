/* Puts the parts of split pixels in the order of their bins, for rejection.cl: share x S, and the number of frames lost.
 *
 * Entries that are no part of a pixel have the share 0. A product of a float and an integer is rounded once: the same on
 * every device.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable

kernel void gather_parts(
    global const uint *pixel,        /* of each entry, [entries] */
    global const float *share,       /* of the pixel in the bin, [entries] */
    const uint entries,
    global const uint *image_low, global const uint *image_high, global const uint *image_lost, /* [pixels] */
    global double *sums,             /* [entries] */
    global uint *lost)               /* [entries] */
{
    const uint stretch = (entries + get_global_size(0) - 1) / get_global_size(0), first = get_global_id(0) * stretch;
    for (uint i = first; i < min(entries, first + stretch); i++) {
        const uint from = pixel[i];
        sums[i] = share[i] * (double)(((ulong)image_high[from] << 32) | image_low[from]);
        lost[i] = image_lost[from];
    }
}
