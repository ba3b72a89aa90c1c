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

/* Keys of one bucket: from `first` on, `span` after it. */
typedef struct {
    uint first, span;
} Window;

#if SIGNED
#define SIGN 0x80000000U
KEYS keys_of(const REAL x) {
    const KEYS bits = AS_KEYS(TO_FLOAT(x));
    return bits ^ ((0 - (bits >> 31)) | SIGN);
}
float float_of(const uint key) { return as_float(key & SIGN ? key ^ SIGN : ~key); }
#else
KEYS keys_of(const REAL x) { return AS_KEYS(TO_FLOAT(x)); }
float float_of(const uint key) { return as_float(key); }
#endif

/* Lowest key but 0, and highest, of the pixels of each lane. */
typedef struct {
    KEYS lowest[VECTORS], highest[VECTORS];
} Ranges;

void clear_keys(Ranges *ranges) {
    for (uint v = 0; v < VECTORS; v++) {
        ranges->lowest[v] = (KEYS)UINT_MAX;
        ranges->highest[v] = (KEYS)0;
    }
}

void add_keys(Ranges *ranges, const uint v, const KEYS keys, const REAL w) {
    const KEYS valid = MASK_KEYS(w > (REAL)0);
    ranges->lowest[v] = min(ranges->lowest[v], keys | ~valid | MASK_KEYS(keys == (KEYS)0));
    ranges->highest[v] = max(ranges->highest[v], keys & valid);
}

/* Keys between which most pixels are: from the highest minimum of a lane to the lowest maximum of one. Few pixels lie far
 * below or above all others, be it by factors of a thousand, and they do not reach all lanes. */
void set_range(const Ranges *ranges, SHARED Workspace *work) {
    SYNC;
    work->lowest = 0;
    work->highest = UINT_MAX;
    SYNC;
    for (uint lane = 0; lane < LANES / STEP; lane++) {
        const uint low = ((const uint *)ranges->lowest)[lane], high = ((const uint *)ranges->highest)[lane];
        RAISE(work->lowest, low == UINT_MAX ? 0 : low);
        LOWER(work->highest, high ? high : UINT_MAX);
    }
    SYNC;
}

/* Coarse buckets: the first one has the key 0 for itself, so that it is found at once where most pixels have no counts.
 * The next one has all keys below the range and its first stretch, the last one all keys above. */
typedef struct {
    uint start, bits; /* of the range; of each stretch */
} Buckets;

/* In small bins lowest and highest change places. The range has at most COARSE - 2 stretches: the last bucket is above it. */
Buckets buckets_of(SHARED const Workspace *work) {
    const uint start = min(work->lowest, work->highest), end = max(work->lowest, work->highest);
    const uint bits = 32 - clz(max((end - start) / (COARSE - 2), 1U));
    const Buckets buckets = {start, bits};
    return buckets;
}

KEYS bucket_of(const Buckets buckets, const KEYS keys) {
    const KEYS stretch = min(sub_sat(keys, (KEYS)buckets.start) >> buckets.bits, (KEYS)(COARSE - 2));
    return (stretch + 1) & ~MASK_KEYS(keys == (KEYS)0);
}

Window window_of(const Buckets buckets, const uint bucket) {
    Window window = {0, 0};
    if (bucket) {
        window.first = bucket == 1 ? 1 : buckets.start + ((bucket - 1) << buckets.bits);
        window.span = bucket == COARSE - 1 ? UINT_MAX - window.first
                                           : buckets.start + (bucket << buckets.bits) - 1 - window.first;
    }
    return window;
}

/* Weights of the coarse buckets, and of all. Pixels that follow each other often go to one bucket: they have copies of it,
 * so that none waits for the one before. */
void count_coarse(const Ring ring, SHARED Workspace *work) {
    const Buckets buckets = buckets_of(work);
    uint bucket[LANES / STEP];
    long weight[LANES / STEP];
    ulong total = 0;
    for (uint b = LANE; b < COARSE; b += STEP)
        for (uint copy = 0; copy < COPIES; copy++)
            work->coarse[b][copy] = 0;
    work->bucket = COARSE;
    work->total = 0;
    SYNC;
    for (uint row = LANE; row < ring.entries; row += LANES) {
        for (uint v = 0; v < VECTORS; v++) {
            STORE(bucket_of(buckets, LOAD(ring.key, row + 8 * v)), bucket, 8 * v);
            STORE(TO_INTEGERS(LOAD(ring.w, row + 8 * v)), weight, 8 * v);
        }
        for (uint j = 0; j < LANES / STEP; j += COPIES) {
            UNROLL
            for (uint copy = 0; copy < COPIES; copy++)
                ADD(work->coarse[bucket[j + copy]][copy], (ulong)weight[j + copy]);
        }
    }
    SYNC;
    for (uint b = LANE; b < COARSE; b += STEP) {
        for (uint copy = 1; copy < COPIES; copy++)
            work->coarse[b][0] += work->coarse[b][copy];
        total += work->coarse[b][0];
    }
    ADD(work->total, total);
    SYNC;
}

/* One key of the pixels of a bin, the weight of those below it, and of those that have it. */
typedef struct {
    uint key;
    ulong below, equal;
} Place;

/* Moves on by whole buckets, until the weight so far and that of the next one reach `rank`; how many. */
uint move_on(Place *place, SHARED const ulong *weights, const uint buckets, const uint step, const ulong rank) {
    uint bucket = 0;
    for (; bucket < buckets - 1 && place->below + weights[bucket * step] < rank; bucket++)
        place->below += weights[bucket * step];
    place->equal = weights[bucket * step];
    return bucket;
}

/* Lists the entries of a coarse bucket, if the list is not of that one already. */
void list_bucket(const Ring ring, const uint bucket, const Window window, SHARED Workspace *work) {
    SYNC;
    const bool is_listed = work->bucket == bucket;
    const uint entries = is_listed ? 0 : ring.entries;
    SYNC;
    work->listed = is_listed ? work->listed : 0;
    work->bucket = bucket;
    SYNC;
    for (uint i = LANE * LENGTH; i < entries; i += STEP * LENGTH)
        if (ANY(LOAD(ring.key, i) - window.first <= window.span))
            for (uint j = i; j < i + LENGTH; j++)
                APPEND_IF(ring.key[j] - window.first <= window.span, ring.list, work->listed, j);
    SYNC;
}

/* Where the pixels, counted by weight in the order of their keys, reach a rank, 1 to their total. */
Place find_place(const Ring ring, const ulong rank, SHARED Workspace *work) {
    Place place = {0, 0, 0};
    const uint bucket = move_on(&place, work->coarse[0], COARSE, COPIES, rank);
    Window window = window_of(buckets_of(work), bucket);
    list_bucket(ring, bucket, window, work);
    while (window.span) {
        const uint bits = sub_sat(32 - clz(window.span), (uint)FINE_BITS);
        for (uint b = LANE; b < FINE; b += STEP)
            work->fine[b] = 0;
        SYNC;
        for (uint j = LANE; j < work->listed; j += STEP) {
            const uint i = ring.list[j], offset = ring.key[i] - window.first;
            if (offset <= window.span)
                ADD(work->fine[offset >> bits], (ulong)(long)ring.w[i]);
        }
        SYNC;
        const uint offset = move_on(&place, work->fine, FINE, 1, rank) << bits;
        window.first += offset;
        window.span = min(window.span - offset, (1U << bits) - 1);
        SYNC;
    }
    place.key = window.first;
    return place;
}

bool holds(const Place place, const ulong rank) { return place.below < rank && rank - place.below <= place.equal; }

/* Two places, mostly one and the same. */
void find_places(const Ring ring, const ulong *ranks, Place *places, SHARED Workspace *work) {
    places[0] = places[1] = find_place(ring, ranks[0], work);
    if (!holds(places[0], ranks[1]))
        places[1] = find_place(ring, ranks[1], work);
}

double value_of(const Place place) { return float_of(place.key); }

/* Middle of the keys just below and just above half the weight; mostly they are one. */
double median(const Ring ring, SHARED Workspace *work) {
    const ulong half_way = rint(0.5 * work->total), ranks[] = {max(half_way, 1UL), min(half_way + 1, work->total)};
    Place places[2];
    find_places(ring, ranks, places, work);
    return 0.5 * (value_of(places[0]) + value_of(places[1]));
}

/* As a double the total may be rounded up. */
ulong rank_of(const double share, const ulong total) { return min((ulong)rint(share * total), total); }

Band band_of(const Ring ring, const double qmin, const double qmax, SHARED Workspace *work) {
    const ulong start = rank_of(qmin, work->total), end = rank_of(qmax, work->total);
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
    Ranges ranges;
    clear_keys(&ranges);
    for (uint row = LANE; row < ring.entries; row += LANES)
        for (uint v = 0; v < VECTORS; v++) {
            const uint i = row + 8 * v;
            const KEYS keys = keys_of(fabs(LOAD(ring.x, i) - centre));
            STORE(keys, ring.key, i);
            add_keys(&ranges, v, keys, LOAD(ring.w, i));
        }
    set_range(&ranges, work);
}
