/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Self-test at boot. It checks whether this board computes what the host computed at export.
 *
 * Each function prints a line for every failed check, and a line with its measurements. The memory that it used must be
 * reset afterwards.
 */
#ifndef KWS_SELF_TEST_H_
#define KWS_SELF_TEST_H_

#include <stdint.h>

#include "kws_app.h"
#include "kws_port.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Results of the parts of a self-test. Before the first part, set `port`, and set the other fields to 0. */
typedef struct kws_self_test_findings {
    const kws_port *port; /**< Your board, which prints, and counts cycles if it can. */
    uint32_t failures;    /**< Checks that failed. */
    uint64_t cycles;      /**< Cycles that the parts need for a second of audio. */
} kws_self_test_findings;

/**
 * Runs all parts in the application's own memory. If the port has `cycles`, this also prints the cycles of all parts
 * for a second of audio.
 *
 * @param port Your board. `print` must not be NULL.
 * @param app A stream that kws_app_init set up. Call kws_app_reset afterwards.
 * @return KWS_OK, KWS_ERR_SELF_TEST, KWS_ERR_ARGUMENT, or the error of kws_app_error.
 */
kws_status kws_self_test(const kws_port *port, kws_app *app);

/**
 * Compares the front end with the golden features. In single precision they may differ by 1 step, and 99 % must be
 * equal. In fixed point they may differ by 2 steps, and 85 % must be equal.
 *
 * @param findings Receives the results.
 * @param frontend Memory.
 * @param input Memory of KWS_INPUT_SIZE bytes.
 * @return KWS_OK, KWS_ERR_SELF_TEST or KWS_ERR_ARGUMENT.
 */
kws_status kws_self_test_frontend(kws_self_test_findings *findings, kws_frontend_state *frontend, int8_t *input);

/**
 * Compares the detector with the golden detections, which must be equal.
 *
 * @param findings Receives the results.
 * @param detector Memory.
 * @return KWS_OK, KWS_ERR_SELF_TEST or KWS_ERR_ARGUMENT.
 */
kws_status kws_self_test_detector(kws_self_test_findings *findings, kws_detector_state *detector);

/**
#if KWS_STATES
 * Compares the model with the golden scores, twice, each time as a new stream. For this board's own features, the
 * posteriors may differ by 16 of 256 steps (fixed point: 32), and in a tenth of the inferences by more. For the golden
 * features, the scores must be equal.
#else
 * Compares the model with the golden posteriors. For the golden features, the posteriors must be equal. For this
 * board's own features, the same label must win, and posteriors may differ by 16 of 256 steps (fixed point: 32).
#endif /* KWS_STATES */
 *
 * @param findings Receives the results.
 * @param frontend Memory.
 * @param model A model that is set up.
 * @return KWS_OK, KWS_ERR_SELF_TEST or KWS_ERR_ARGUMENT.
 */
kws_status kws_self_test_inference(kws_self_test_findings *findings, kws_frontend_state *frontend, kws_model *model);

#ifdef __cplusplus
}
#endif

#endif /* KWS_SELF_TEST_H_ */
