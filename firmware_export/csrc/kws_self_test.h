/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Self-test at boot: does this board compute what the host computed at export?
 *
 * Each function prints a line for every check that failed and one with what was measured. What it takes as memory must
 * be reset afterwards.
 */
#ifndef KWS_SELF_TEST_H_
#define KWS_SELF_TEST_H_

#include <stdint.h>

#include "kws_app.h"
#include "kws_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What the parts of a self-test have found. Yours: set `port`, and the rest to 0, before the first of them. */
typedef struct kws_self_test_findings {
    const kws_port *port; /**< Prints, and counts cycles where it can. */
    uint32_t failures;    /**< Checks that failed. */
    uint64_t cycles;      /**< What the parts took for a second of audio. */
} kws_self_test_findings;

/**
 * Runs all parts in the application's own memory. With `cycles` in the port, it also prints what all takes of them in a
 * second of audio.
 *
 * @param port Your board; `print` must be there.
 * @param app Set up by kws_app_init. Call kws_app_reset afterwards.
 * @return KWS_OK, KWS_ERR_SELF_TEST, KWS_ERR_ARGUMENT, or what kws_app_error returns.
 */
kws_status kws_self_test(const kws_port *port, kws_app *app);

/**
 * Compares the front end with the golden features: in single precision at most 1 step apart and 99 % equal, in fixed
 * point at most 2 and 85 %.
 *
 * @param findings Receives what was found.
 * @param frontend Memory.
 * @param input Memory of KWS_INPUT_SIZE bytes.
 * @return KWS_OK, KWS_ERR_SELF_TEST or KWS_ERR_ARGUMENT.
 */
kws_status kws_self_test_frontend(kws_self_test_findings *findings, kws_frontend_state *frontend, int8_t *input);

/**
 * Compares the detector with the golden detections, which must be the same.
 *
 * @param findings Receives what was found.
 * @param detector Memory.
 * @return KWS_OK, KWS_ERR_SELF_TEST or KWS_ERR_ARGUMENT.
 */
kws_status kws_self_test_detector(kws_self_test_findings *findings, kws_detector_state *detector);

/**
 * Compares the model with the golden posteriors. They must be the same for the golden features. For this board's own
 * they must name the same label within 16 of 256 steps (fixed point: 32).
 *
 * @param findings Receives what was found.
 * @param frontend Memory.
 * @param model A model that is set up.
 * @return KWS_OK, KWS_ERR_SELF_TEST or KWS_ERR_ARGUMENT.
 */
kws_status kws_self_test_inference(kws_self_test_findings *findings, kws_frontend_state *frontend, kws_model *model);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SELF_TEST_H_ */
