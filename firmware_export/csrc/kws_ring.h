/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Samples that wait while an inference runs. An interrupt, callback or task writes them; the program reads them.
 *
 * If the ring is full, it has an overrun. It then takes no more samples, and counts the lost ones, until it has been
 * read empty. So there is only one gap, and the audio before and after it is complete.
 */
#ifndef KWS_RING_H_
#define KWS_RING_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/** A ring. You provide its memory, and kws_ring_init sets it up. Private. Counters count samples, and wrap at 2^32. */
typedef struct kws_ring {
    int16_t *samples; /**< Your memory. */
    uint32_t size;    /**< Capacity in samples; a power of two. */
    uint32_t written; /**< The writer's: samples that were put in. */
    uint32_t taken;   /**< The reader's: samples that were taken out. */
    uint32_t lost;    /**< The writer's: samples that found no room. */
    uint32_t told;    /**< The reader's: of these, those that kws_ring_read has told of. */
    uint32_t overrun; /**< 1 from an overrun until the ring has been read empty, else 0. */
} kws_ring;

/**
 * Gives a ring its memory.
 *
 * @param ring The ring to set up.
 * @param samples The memory. Keep it as long as the ring is used.
 * @param size Capacity in samples: a power of two from 2 to 2^30.
 * @return KWS_OK, or KWS_ERR_ARGUMENT.
 */
kws_status kws_ring_init(kws_ring *ring, int16_t *samples, uint32_t size);

/**
 * Puts samples in. Only the writer may call this. Samples that find no room are lost, and counted.
 *
 * @param ring A ring that is set up.
 * @param samples The samples to put in.
 * @param n_samples Number of samples; at most SIZE_MAX / 2, so that a negative number is refused.
 * @param taken Receives the number of samples that found room; may be NULL.
 * @return KWS_OK, even if samples are lost; KWS_ERR_ARGUMENT; or KWS_ERR_STATE before kws_ring_init.
 */
kws_status kws_ring_write(kws_ring *ring, const int16_t *samples, size_t n_samples, size_t *taken);

/**
 * Takes samples out. Only the reader may call this. It never waits.
 *
 * @param ring A ring that is set up.
 * @param samples Receives the samples.
 * @param n_samples Most samples to take.
 * @param taken Receives the number of samples taken: 0 if there are none, at a gap, or on an error.
 * @param lost Receives the number of missing samples if all samples before a gap have been read, else 0. Pass it to
 *     kws_app_lost, or return it from kws_port.audio_read, and read on.
 * @return KWS_OK, KWS_ERR_ARGUMENT, or KWS_ERR_STATE before kws_ring_init.
 */
kws_status kws_ring_read(kws_ring *ring, int16_t *samples, size_t n_samples, size_t *taken, uint32_t *lost);

#ifdef __cplusplus
}
#endif

#endif /* KWS_RING_H_ */
