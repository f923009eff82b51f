/* Self-test at boot: does this board compute what the host computed at export? */
#ifndef KWS_SELF_TEST_H_
#define KWS_SELF_TEST_H_

#include <stdint.h>

#include "kws_frontend.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kws_self_test_port {
    /* Prints one line, which comes without its end. */
    void (*print)(const char *line);
    /* A counter of cycles (or instructions) that wraps at 2^32; NULL where there is none. */
    uint32_t (*cycles)(void);
} kws_self_test_port;

/* Each returns the number of failed checks, prints one line for every failure and one with what was measured. The state
 * is used as memory and must be reset afterwards. A missing state or `print` is a failed check. */

/* Front end against the golden features: single precision at most 1 step apart and 99 % equal, fixed point at most 2
 * and 85 %. */
int kws_self_test_frontend(const kws_self_test_port *port, kws_frontend_state *state);

/* Detector against the golden detections, which must be the same. */
int kws_self_test_detector(const kws_self_test_port *port);

/* Model, which kws_model_init or kws_app_init has set up, against the golden posteriors. They must be the same for the
 * golden features, and for this board's own name the same label within 16 of 256 steps (fixed point: 32). */
int kws_self_test_model(const kws_self_test_port *port, kws_frontend_state *state);

/* All of the above; with `cycles`, also prints what all takes of them in a second of audio. */
int kws_self_test(const kws_self_test_port *port, kws_frontend_state *state);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SELF_TEST_H_ */
