/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_ring.h"

/* The stores of one side become visible to the other side in the same order. */
#if defined(__GNUC__)
#define LOAD(from) __atomic_load_n(&(from), __ATOMIC_ACQUIRE)
#define STORE(to, value) __atomic_store_n(&(to), value, __ATOMIC_RELEASE)
#else
#define LOAD(from) (*(const volatile uint32_t *)&(from))
#define STORE(to, value) (*(volatile uint32_t *)&(to) = (value))
#endif

kws_status kws_ring_init(kws_ring *ring, int16_t *samples, uint32_t size) {
    if (ring == NULL || samples == NULL || size < 2 || size > (uint32_t)1 << 30 || (size & (size - 1)) != 0) {
        return KWS_ERR_ARGUMENT;
    }
    const kws_ring empty = {samples, size, 0, 0, 0, 0, 0};
    *ring = empty;
    return KWS_OK;
}

kws_status kws_ring_write(kws_ring *ring, const int16_t *samples, size_t n_samples, size_t *taken) {
    if (taken != NULL) {
        *taken = 0;
    }
    if (ring == NULL || samples == NULL || n_samples > SIZE_MAX / 2) {
        return KWS_ERR_ARGUMENT;
    }
    if (ring->samples == NULL) {
        return KWS_ERR_STATE;
    }
    const uint32_t written = ring->written;
    const uint32_t room = LOAD(ring->overrun) ? 0 : ring->size - (written - LOAD(ring->taken));
    const uint32_t fits = n_samples < room ? (uint32_t)n_samples : room;
    for (uint32_t i = 0; i < fits; i++) {
        ring->samples[(written + i) & (ring->size - 1)] = samples[i];
    }
    STORE(ring->written, written + fits);
    if (fits < n_samples) {
        STORE(ring->lost, ring->lost + (uint32_t)(n_samples - fits));
        STORE(ring->overrun, 1);
    }
    if (taken != NULL) {
        *taken = fits;
    }
    return KWS_OK;
}

kws_status kws_ring_read(kws_ring *ring, int16_t *samples, size_t n_samples, size_t *taken, uint32_t *lost) {
    if (taken == NULL || lost == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    *taken = 0;
    *lost = 0;
    if (ring == NULL || samples == NULL) {
        return KWS_ERR_ARGUMENT;
    }
    if (ring->samples == NULL) {
        return KWS_ERR_STATE;
    }
    const uint32_t overrun = LOAD(ring->overrun); /* read before `written`, which does not change after an overrun */
    const uint32_t from = ring->taken;
    uint32_t waiting = LOAD(ring->written) - from;
    if (overrun != 0 && waiting == 0) {
        STORE(ring->overrun, 0);
        *lost = LOAD(ring->lost) - ring->told;
        ring->told += *lost;
        return KWS_OK;
    }
    waiting = n_samples < waiting ? (uint32_t)n_samples : waiting;
    for (uint32_t i = 0; i < waiting; i++) {
        samples[i] = ring->samples[(from + i) & (ring->size - 1)];
    }
    STORE(ring->taken, from + waiting);
    *taken = waiting;
    return KWS_OK;
}
