/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief What the parts of the self-test share; private.
 */
#ifndef KWS_SELF_TEST_PARTS_H_
#define KWS_SELF_TEST_PARTS_H_

#include "kws_self_test.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define KWS_PRINTS __attribute__((format(printf, 2, 3)))
#else
#define KWS_PRINTS
#endif

/**
 * Prints one line.
 *
 * @param port A board that has `print`.
 * @param format As of printf; lines end at 127 bytes.
 */
KWS_PRINTS void kws_self_test_print(const kws_port *port, const char *format, ...);

/**
 * Counts a check that failed, and prints it.
 *
 * @param findings Of a part that has begun.
 * @param format As of printf; what failed.
 */
KWS_PRINTS void kws_self_test_fail(kws_self_test_findings *findings, const char *format, ...);

/**
 * Whether a part can begin.
 *
 * @param findings What the part was given.
 * @param memory What else it was given.
 * @return KWS_OK, or KWS_ERR_ARGUMENT; where it can, that is printed.
 */
kws_status kws_self_test_begin(const kws_self_test_findings *findings, const void *memory);

/**
 * The port's counter of cycles.
 *
 * @param port A board.
 * @return What it says; 0 where it has none.
 */
uint32_t kws_self_test_now(const kws_port *port);

/**
 * Has the front end hear the golden audio, in small blocks.
 *
 * @param state The front end.
 * @param from First sample.
 * @param to Sample after the last, at most KWS_VECTOR_SAMPLES.
 */
void kws_self_test_hear(kws_frontend_state *state, uint32_t from, uint32_t to);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SELF_TEST_PARTS_H_ */
