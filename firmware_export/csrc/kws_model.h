/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief The model, run by TensorFlow Lite Micro (TFLM).
 *
 * Nothing allocates, and nothing is shared: as many kws_model as you like, each in memory of its own, run side by side.
 * Call the functions of one kws_model from one task at a time.
 */
#ifndef KWS_MODEL_H_
#define KWS_MODEL_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"
#include "kws_platform.h"
#include "kws_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Bytes for TFLM's interpreter and resolver, which lie in a kws_model. Where TFLM's are larger, kws_model.cc does not
 * compile: then give all files a larger number.
 */
#ifndef KWS_MODEL_OBJECT_BYTES
#define KWS_MODEL_OBJECT_BYTES ((96 + 10 * KWS_MODEL_OPS) * sizeof(void *))
#endif

/** One model that runs. Yours (static: it has some hundred bytes); set up by kws_model_init. All of it is private. */
typedef struct kws_model {
    uint32_t set_up;   /**< Whether kws_model_init was called. */
    kws_status status; /**< What it returned. */
    void *interpreter; /**< In `objects`; NULL where there is none. */
    uint64_t objects[(KWS_MODEL_OBJECT_BYTES + sizeof(uint64_t) - 1) / sizeof(uint64_t)]; /**< Memory of C++ objects. */
} kws_model;

/** @return sizeof(kws_model) as the library was compiled: for other languages, and to find out unequal settings. */
size_t kws_model_sizeof(void);

/**
 * Sets up the interpreter. Call it again to start anew, after an error for example.
 *
 * @param model What to set up.
 * @param arena Memory for the interpreter, yours, on a boundary of 16 bytes (`static KWS_ALIGNED uint8_t arena[...]`).
 *     Up to 15 bytes are lost otherwise. It is the model's until kws_model_deinit.
 * @param arena_size Its bytes: KWS_ARENA_SIZE, or what your kernels take; at least 1024.
 * @return KWS_OK, KWS_ERR_ARGUMENT, KWS_ERR_SCHEMA, KWS_ERR_OPS, KWS_ERR_ARENA or KWS_ERR_TENSOR.
 */
kws_status kws_model_init(kws_model *model, void *arena, size_t arena_size);

/**
 * Ends the interpreter: the arena is yours again.
 *
 * @param model What kws_model_init was given.
 * @return KWS_OK, or KWS_ERR_ARGUMENT for NULL.
 */
kws_status kws_model_deinit(kws_model *model);

/**
 * Clears what the model remembers between inferences: nothing, for a model that takes a whole window.
 *
 * @param model A model that is set up.
 * @return KWS_OK, KWS_ERR_ARGUMENT, KWS_ERR_STATE, KWS_ERR_INVOKE, or the error of kws_model_init.
 */
kws_status kws_model_reset(kws_model *model);

/**
 * The input, to fill before each inference.
 *
 * @param model A model that is set up.
 * @return KWS_INPUT_SIZE values in the arena; NULL where the model is not set up.
 */
int8_t *kws_model_input(kws_model *model);

/**
 * Runs the model on its input.
 *
 * @param model A model that is set up.
 * @param posteriors Receives KWS_N_LABELS values, (q + 128) / 256 each. They lie in the arena, and are valid until the
 *     next inference. After an error it is as it was.
 * @return KWS_OK, KWS_ERR_ARGUMENT, KWS_ERR_STATE, KWS_ERR_INVOKE, or the error of kws_model_init.
 */
kws_status kws_model_invoke(kws_model *model, const int8_t **posteriors);

/**
 * How much of the arena is in use.
 *
 * @param model A model that is set up.
 * @return Bytes; 0 where the model is not set up.
 */
size_t kws_model_arena_used(const kws_model *model);

/** @return Bytes of flash that the model's file takes. */
size_t kws_model_flash(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_MODEL_H_ */
