/* Puts the parts of split pixels in the order of their bins, for rejection.cl: share x S in counts, and the exposure lost.
 *
 * Entries that are no part of a pixel have the share 0. A product of a float and an integer is rounded once: the same on
 * every device. Built with -D EXPOSURE as image.cl.
 */

#pragma OPENCL EXTENSION cl_khr_fp64 : enable

kernel void gather_parts(
    global const uint *pixel,        /* of each entry, [entries] */
    global const float *share,       /* of the pixel in the bin, [entries] */
    const uint entries,
    global const uint *image_low, global const uint *image_high, global const EXPOSURE *image_lost, /* [pixels] */
    const double quantum,            /* unit of the signals, in counts */
    global uint *low, global uint *high, /* words of a double, [entries] */
    global EXPOSURE *lost)           /* [entries] */
{
    const uint stretch = (entries + get_global_size(0) - 1) / get_global_size(0), first = get_global_id(0) * stretch;
    for (uint i = first; i < min(entries, first + stretch); i++) {
        const uint from = pixel[i];
        const long sum = ((ulong)image_high[from] << 32) | image_low[from];
        const ulong words = as_ulong(share[i] * (double)sum * quantum);
        low[i] = words;
        high[i] = words >> 32;
        lost[i] = image_lost[from];
    }
}
