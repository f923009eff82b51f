/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Samples that wait while an inference runs: an interrupt, callback or task writes them, the program reads them.
 *
 * A ring that is full has an overrun: it takes nothing more, and counts what is lost, until it has been read empty. So
 * there is one gap, and what lies before it and after it is whole.
 */
#ifndef KWS_RING_H_
#define KWS_RING_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A ring. Yours; set up by kws_ring_init. All of it is private. Counters are of samples, and wrap at 2^32. */
typedef struct kws_ring {
    int16_t *samples; /**< Memory of yours. */
    uint32_t size;    /**< Samples that it holds; a power of two. */
    uint32_t written; /**< The writer's: samples that were put in. */
    uint32_t taken;   /**< The reader's: samples that were taken out. */
    uint32_t lost;    /**< The writer's: samples that found no room. */
    uint32_t told;    /**< The reader's: of these, those that kws_ring_read has told of. */
    uint32_t overrun; /**< 1 from an overrun until the ring has been read empty, else 0. */
} kws_ring;

/**
 * Gives a ring its memory.
 *
 * @param ring What to set up.
 * @param samples The memory, yours for as long as the ring is used.
 * @param size Samples that it holds: a power of two from 2 to 2^30.
 * @return KWS_OK, or KWS_ERR_ARGUMENT.
 */
kws_status kws_ring_init(kws_ring *ring, int16_t *samples, uint32_t size);

/**
 * Puts samples in; for the writer alone. Those that find no room are lost, and counted.
 *
 * @param ring A ring that is set up.
 * @param samples What to put in.
 * @param n_samples How many there are; at most SIZE_MAX / 2, so that a negative number is refused.
 * @param taken Receives how many found room; may be NULL.
 * @return KWS_OK, also where samples are lost; KWS_ERR_ARGUMENT, or KWS_ERR_STATE before kws_ring_init.
 */
kws_status kws_ring_write(kws_ring *ring, const int16_t *samples, size_t n_samples, size_t *taken);

/**
 * Takes samples out; for the reader alone. It never waits.
 *
 * @param ring A ring that is set up.
 * @param samples Receives the samples.
 * @param n_samples How many it may take.
 * @param taken Receives how many it took: 0 where there are none, before a gap, or on an error.
 * @param lost Receives how many samples are missing where all before a gap has been read, else 0. Tell kws_app_lost, or
 *     return it from kws_port.audio_read, and read on.
 * @return KWS_OK, KWS_ERR_ARGUMENT, or KWS_ERR_STATE before kws_ring_init.
 */
kws_status kws_ring_read(kws_ring *ring, int16_t *samples, size_t n_samples, size_t *taken, uint32_t *lost);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RING_H_ */
