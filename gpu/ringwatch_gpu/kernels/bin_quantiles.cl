/* Quantiles of the pixels of a bin, by radix selection.
 *
 * Part of rejection.cl, after bin_sums.cl. Keys are the bits of floats that are not negative, in whose order they are;
 * with -D SIGNED=1 those of all floats, turned such that they are in their order.
 * Weights are added as integers in buckets of keys, which does not depend on any order: coarse ones for all pixels, then
 * finer and finer ones for those in the bucket that is looked for.
 */

/* Those whose x, rounded to a key, is between two keys, and shares of those on the keys. */
typedef struct {
    double first, last, first_share, last_share;
} Band;

/* Keys of one bucket: those from `first` on, 2^bits of them. */
typedef struct {
    uint first, bits;
} Window;

#if SIGNED
#define SIGN 0x80000000U
uint key_of(const double x) {
    const uint bits = as_uint((float)x);
    return bits & SIGN ? ~bits : bits | SIGN;
}
float float_of(const uint key) { return as_float(key & SIGN ? key ^ SIGN : ~key); }
#else
uint key_of(const double x) { return as_uint((float)x); }
float float_of(const uint key) { return as_float(key); }
#endif

/* Lowest key but 0, and highest, of all lanes. */
void set_range(const uint lowest, const uint highest, SHARED Workspace *work) {
    SYNC;
    work->lowest = UINT_MAX;
    work->highest = 0;
    SYNC;
    LOWER(work->lowest, lowest);
    RAISE(work->highest, highest);
    SYNC;
}

/* Coarse buckets are equal stretches of keys, but the first one: it has the key 0 for itself. (All other keys are those
 * of normal floats, 2^23 and more, so that there is room below the lowest. Keys of signed floats are never 0.) */
uint coarse_bits(SHARED const Workspace *work) {
    uint bits = 0;
    while (work->lowest < work->highest && (work->highest - work->lowest) >> bits > COARSE - 2)
        bits++;
    return bits;
}

uint coarse_start(SHARED const Workspace *work, const uint bits) { return sub_sat(work->lowest, 1U << bits); }

/* Weights of the coarse buckets. */
void count_coarse(const Ring ring, SHARED Workspace *work) {
    const uint bits = coarse_bits(work), start = coarse_start(work, bits);
    for (uint b = LANE; b < COARSE; b += STEP)
        work->coarse[b] = 0;
    work->bucket = COARSE;
    SYNC;
    for (uint i = LANE; i < ring.entries; i += STEP)
        ADD(work->coarse[min(sub_sat(ring.key[i], start) >> bits, COARSE - 1U)], (ulong)(long)ring.w[i]);
    SYNC;
}

/* One key of the pixels of a bin, the weight of those below it, and of those that have it. */
typedef struct {
    uint key;
    ulong below, equal;
} Place;

/* Moves on by whole buckets, until the weight so far and that of the next one reach `rank`; how many. */
uint move_on(Place *place, SHARED const ulong *weights, const uint buckets, const ulong rank) {
    uint bucket = 0;
    for (; bucket < buckets - 1 && place->below + weights[bucket] < rank; bucket++)
        place->below += weights[bucket];
    place->equal = weights[bucket];
    return bucket;
}

/* Lists the entries of a coarse bucket, if the list is not of that one already. */
void list_bucket(const Ring ring, const uint bucket, const Window window, SHARED Workspace *work) {
    SYNC;
    const uint entries = work->bucket == bucket ? 0 : ring.entries;
    SYNC;
    work->listed = entries ? 0 : work->listed;
    work->bucket = bucket;
    SYNC;
    for (uint i = LANE; i < entries; i += STEP)
        if ((ring.key[i] - window.first) >> window.bits == 0)
            ring.list[APPEND(work->listed)] = i;
    SYNC;
}

/* Where the pixels, counted by weight in the order of their keys, reach two ranks, 1 to their total. */
void find_places(const Ring ring, const ulong *ranks, Place *places, SHARED Workspace *work) {
    for (uint p = 0; p < 2; p++) {
        const ulong rank = ranks[p];
        Window window = {0, coarse_bits(work)};
        Place place = {0, 0, 0};
        const uint bucket = move_on(&place, work->coarse, COARSE, rank);
        if (bucket)
            window.first = coarse_start(work, window.bits) + (bucket << window.bits);
        else
            window.bits = 0;
        list_bucket(ring, bucket, window, work);
        while (window.bits) {
            const uint bits = sub_sat(window.bits, (uint)FINE_BITS);
            for (uint b = LANE; b < FINE; b += STEP)
                work->fine[b] = 0;
            SYNC;
            for (uint j = LANE; j < work->listed; j += STEP) {
                const uint i = ring.list[j], offset = ring.key[i] - window.first;
                if (offset >> window.bits == 0)
                    ADD(work->fine[offset >> bits], (ulong)(long)ring.w[i]);
            }
            SYNC;
            window.first += move_on(&place, work->fine, FINE, rank) << bits;
            window.bits = bits;
            SYNC;
        }
        place.key = window.first;
        places[p] = place;
    }
}

double value_of(const Place place) { return float_of(place.key); }

/* Middle of the keys just below and just above half the weight; mostly they are one. */
double median(const Ring ring, SHARED Workspace *work) {
    const ulong half_way = rint(0.5 * work->total), ranks[] = {max(half_way, 1UL), min(half_way + 1, work->total)};
    Place places[2];
    find_places(ring, ranks, places, work);
    return 0.5 * (value_of(places[0]) + value_of(places[1]));
}

Band band_of(const Ring ring, const double qmin, const double qmax, SHARED Workspace *work) {
    const ulong start = rint(qmin * work->total), end = rint(qmax * work->total);
    const ulong ranks[] = {min(start + 1, work->total), max(end, 1UL)};
    Place places[2];
    find_places(ring, ranks, places, work);
    const Place first = places[0], last = places[1];
    Band band = {value_of(first), value_of(last), 1, 1};
    if (first.key == last.key) {
        if (start < end)
            band.first_share = band.last_share = (double)(end - start) / (double)last.equal;
    } else if (start < end) {
        band.first_share = (double)(first.below + first.equal - start) / (double)first.equal;
        band.last_share = (double)(end - last.below) / (double)last.equal;
    } else { /* between two keys: as much of both */
        const ulong both = min(first.equal, last.equal);
        band.first_share = (double)both / (double)first.equal;
        band.last_share = (double)both / (double)last.equal;
    }
    return band;
}

/* Makes |x - centre| the keys. */
void key_distances(const Ring ring, const double centre, SHARED Workspace *work) {
    uint lowest = UINT_MAX, highest = 0;
    for (uint i = LANE; i < ring.entries; i += STEP) {
        const uint key = key_of(fabs(ring.x[i] - centre));
        ring.key[i] = key;
        lowest = min(lowest, key ? key : UINT_MAX);
        highest = max(highest, ring.w[i] > 0 ? key : 0);
    }
    set_range(lowest, highest, work);
}
