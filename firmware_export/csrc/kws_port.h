/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Functions of a board that this library needs. examples/ has them for some boards.
 */
#ifndef KWS_PORT_H_
#define KWS_PORT_H_

#include <stddef.h>
#include <stdint.h>

/**
 * A board's functions, for kws_run and kws_self_test. You provide this structure, and both only read it.
 *
 * Errors are your board's own negative numbers.
 */
typedef struct kws_port {
    /** Passed to each function; may be NULL. */
    void *context;

    /** Prints one line. The text has no line end. */
    void (*print)(void *context, const char *line);

    /** Returns a count of cycles or instructions that wraps at 2^32. NULL: there is no such counter. */
    uint32_t (*cycles)(void *context);

    /**
     * Starts the microphone: mono, KWS_SAMPLE_RATE Hz, 16 bits. Returns 0; any other number is an error. NULL: the
     * microphone already runs. kws_self_test does not call this function.
     */
    int (*audio_start)(void *context);

    /**
     * Waits for samples and copies 1 to `n_samples` of them. Returns their number, 0 if there were none for a while, or
     * a negative error. kws_self_test does not call this function.
     *
     * Your driver must hold the samples that arrive during an inference, as kws_ring.h does. At 16 kHz, an inference of
     * 100 ms needs room for 1600 samples. If samples were lost before those that you return, set `*lost` to their
     * number. The caller sets `*lost` to 0.
     */
    int (*audio_read)(void *context, int16_t *samples, size_t n_samples, uint32_t *lost);
} kws_port;

#endif /* KWS_PORT_H_ */
