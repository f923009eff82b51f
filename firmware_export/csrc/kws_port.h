/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief What this library needs of a board. examples/ has it for some.
 */
#ifndef KWS_PORT_H_
#define KWS_PORT_H_

#include <stddef.h>
#include <stdint.h>

/**
 * A board's functions, for kws_run and kws_self_test. Yours; both only read it.
 *
 * Errors are your board's own negative numbers.
 */
typedef struct kws_port {
    /** Given to each function; may be NULL. */
    void *context;

    /** Prints one line, which comes without its end. */
    void (*print)(void *context, const char *line);

    /** Counts cycles, or instructions, and wraps at 2^32. NULL: there is no such counter. */
    uint32_t (*cycles)(void *context);

    /**
     * Starts the microphone: mono, KWS_SAMPLE_RATE Hz, 16 bits. Returns 0; any other number is an error. NULL: it runs
     * already. kws_self_test does not call it.
     */
    int (*audio_start)(void *context);

    /**
     * Waits for samples and copies 1 to `n_samples` of them. Returns how many, 0 if there were none for a while, or a
     * negative error. kws_self_test does not call it.
     *
     * Your driver must hold what arrives during an inference, as kws_ring.h does: at 16 kHz, 1600 samples for one of
     * 100 ms. Where samples were lost before those that you return, set `*lost` to their number. It is 0 before.
     */
    int (*audio_read)(void *context, int16_t *samples, size_t n_samples, uint32_t *lost);
} kws_port;

#endif /* KWS_PORT_H_ */
