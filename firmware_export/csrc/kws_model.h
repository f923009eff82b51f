/* The model, run by TensorFlow Lite Micro. */
#ifndef KWS_MODEL_H_
#define KWS_MODEL_H_

#include <stddef.h>
#include <stdint.h>

#include "kws_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the functions of kws_model and kws_app return. */
enum {
    KWS_OK = 0,
    KWS_ERR_SCHEMA = -1, /* TensorFlow Lite Micro reads another version of the file format */
    KWS_ERR_OPS = -2,    /* an operator could not be registered */
    KWS_ERR_ARENA = -3,  /* the arena is too small, or an operator refused the model; TFLM's log says which */
    KWS_ERR_TENSOR = -4, /* the input or output is not as it was at export */
    KWS_ERR_INVOKE = -5, /* an operator failed */
    KWS_ERR_STATE = -6,    /* kws_model_init has not succeeded */
    KWS_ERR_SELF_TEST = -7 /* the board does not compute what the host computed */
};

/* Sets up the interpreter in an arena of KWS_ARENA_SIZE bytes. */
int kws_model_init(void);

/* Clears what the model remembers between inferences (nothing, for a model that takes a whole window). */
int kws_model_reset(void);

/* The input to fill before each invocation, KWS_INPUT_SIZE values; NULL before kws_model_init. */
int8_t *kws_model_input(void);

/* Runs the model; `posteriors` are then KWS_N_LABELS values, valid until the next invocation. */
int kws_model_invoke(const int8_t **posteriors);

/* Bytes of the arena that are in use, and of the model in flash. */
size_t kws_model_arena_used(void);
size_t kws_model_size(void);

#ifdef __cplusplus
}
#endif

#endif /* KWS_MODEL_H_ */
