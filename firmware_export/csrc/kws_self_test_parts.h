/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Functions that the parts of the self-test share; private.
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
 * @param format Format of printf. Lines are cut at 127 bytes.
 */
KWS_PRINTS void kws_self_test_print(const kws_port *port, const char *format, ...);

/**
 * Counts a failed check, and prints it.
 *
 * @param findings Results of a part that has begun.
 * @param format Format of printf that says what failed.
 */
KWS_PRINTS void kws_self_test_fail(kws_self_test_findings *findings, const char *format, ...);

/**
 * Checks whether a part can begin.
 *
 * @param findings The findings given to the part.
 * @param memory The memory given to the part.
 * @return KWS_OK, or KWS_ERR_ARGUMENT, which is printed if that is possible.
 */
kws_status kws_self_test_begin(const kws_self_test_findings *findings, const void *memory);

/**
 * Reads the port's counter of cycles.
 *
 * @param port A board.
 * @return The count; 0 if there is no counter.
 */
uint32_t kws_self_test_now(const kws_port *port);

/**
 * Feeds the golden audio to the front end in small blocks.
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
