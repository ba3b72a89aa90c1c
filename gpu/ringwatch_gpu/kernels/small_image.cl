/* The summed image, made small to be looked at: sums over square blocks of pixels, one work-item for each block.
 *
 * Built with -D BINS=<radial bins>.
 */

kernel void small_image(
    global const ushort *bin_table,  /* radial bin of a pixel, BINS = not used, [rows][columns] */
    global const uint *image_low, global const uint *image_high, /* sum of the valid signals, [rows][columns] */
    global const uint *image_lost,   /* number of frames in which the pixel was invalid, [rows][columns] */
    const uint rows, const uint columns, const uint step, const uint frames,
    global long *total,              /* sum over the used pixels of a block, [block rows][block columns] */
    global ulong *valid)             /* over how many valid pixels of single frames, [block rows][block columns] */
{
    const uint block_columns = (columns + step - 1) / step, block = get_global_id(0);
    const uint first_row = block / block_columns * step, first_column = block % block_columns * step;
    const uint last_row = min(first_row + step, rows), last_column = min(first_column + step, columns);
    ulong sum = 0, n = 0;
    for (uint row = first_row; row < last_row; row++)
        for (uint column = first_column; column < last_column; column++) {
            const uint i = row * columns + column;
            if (bin_table[i] < BINS) {
                sum += ((ulong)image_high[i] << 32) | image_low[i];
                n += frames - image_lost[i];
            }
        }
    total[block] = (long)sum;
    valid[block] = n;
}
