#include "kws_ring.h"

/* What one side stores is seen by the other in this order. */
#if defined(__GNUC__)
#define LOAD(from) __atomic_load_n(&(from), __ATOMIC_ACQUIRE)
#define STORE(to, value) __atomic_store_n(&(to), value, __ATOMIC_RELEASE)
#else
#define LOAD(from) (*(const volatile uint32_t *)&(from))
#define STORE(to, value) (*(volatile uint32_t *)&(to) = (value))
#endif

int kws_ring_init(kws_ring *ring, int16_t *samples, uint32_t size) {
    if (ring == NULL || samples == NULL || size < 2 || size > (uint32_t)1 << 30 || (size & (size - 1)) != 0) {
        return KWS_ERR_ARGUMENT;
    }
    const kws_ring empty = {samples, size, 0, 0, 0, 0, 0};
    *ring = empty;
    return KWS_OK;
}

size_t kws_ring_write(kws_ring *ring, const int16_t *samples, size_t n) {
    if (ring == NULL || samples == NULL || n > SIZE_MAX / 2) {
        return 0;
    }
    const uint32_t written = ring->written;
    const uint32_t room = LOAD(ring->overrun) ? 0 : ring->size - (written - LOAD(ring->taken));
    const uint32_t fits = n < room ? (uint32_t)n : room;
    for (uint32_t i = 0; i < fits; i++) {
        ring->samples[(written + i) & (ring->size - 1)] = samples[i];
    }
    STORE(ring->written, written + fits);
    if (fits < n) {
        STORE(ring->lost, ring->lost + (uint32_t)(n - fits));
        STORE(ring->overrun, 1);
    }
    return fits;
}

size_t kws_ring_read(kws_ring *ring, int16_t *samples, size_t n, uint32_t *lost) {
    if (lost == NULL) {
        return 0;
    }
    *lost = 0;
    if (ring == NULL || samples == NULL) {
        return 0;
    }
    const uint32_t overrun = LOAD(ring->overrun), taken = ring->taken; /* before `written`, which then stands still */
    uint32_t waiting = LOAD(ring->written) - taken;
    if (overrun && waiting == 0) {
        STORE(ring->overrun, 0);
        *lost = LOAD(ring->lost) - ring->told;
        ring->told += *lost;
        return 0;
    }
    waiting = n < waiting ? (uint32_t)n : waiting;
    for (uint32_t i = 0; i < waiting; i++) {
        samples[i] = ring->samples[(taken + i) & (ring->size - 1)];
    }
    STORE(ring->taken, taken + waiting);
    return waiting;
}
