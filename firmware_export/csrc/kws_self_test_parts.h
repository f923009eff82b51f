/* What the parts of the self-test share. */
#ifndef KWS_SELF_TEST_PARTS_H_
#define KWS_SELF_TEST_PARTS_H_

#include "kws_self_test.h"

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void kws_self_test_print(const kws_self_test_port *port, const char *format, ...);

/* Whether a test can begin. */
bool kws_self_test_ready(const kws_self_test_port *port, const void *state);

/* Cycles that the parts have taken for a second of audio. */
extern uint64_t kws_self_test_cycles;

/* Has the front end hear the golden audio from one sample to another, in small blocks. */
void kws_self_test_hear(kws_frontend_state *state, uint32_t from, uint32_t to);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SELF_TEST_PARTS_H_ */
