/* What the functions of this library return. */
#ifndef KWS_STATUS_H_
#define KWS_STATUS_H_

/* All numbers from KWS_ERR_LAST to KWS_ERR_FIRST are this library's. Any other number but 0 is an error of the board's
 * own (kws_hal.h), which is passed on as it is: neither errno, nor esp_err_t, nor Mbed's numbers lie there. */
enum {
    KWS_OK = 0,
    KWS_ERR_FIRST = -30001,
    KWS_ERR_SCHEMA = -30001,    /* TensorFlow Lite Micro reads another version of the file format */
    KWS_ERR_OPS = -30002,       /* an operator could not be registered */
    KWS_ERR_ARENA = -30003,     /* the arena is too small, or an operator refused the model; TFLM's log says which */
    KWS_ERR_TENSOR = -30004,    /* the input or output is not as it was at export */
    KWS_ERR_INVOKE = -30005,    /* an operator failed */
    KWS_ERR_STATE = -30006,     /* what sets it up was not called, or has failed */
    KWS_ERR_SELF_TEST = -30007, /* the board does not compute what the host computed */
    KWS_ERR_ARGUMENT = -30008,  /* a pointer is NULL, or a number is out of range */
    KWS_ERR_HAL = -30009,       /* a function of kws_hal.h returned what it must not */
    KWS_ERR_LAST = -30099
};

#endif /* KWS_STATUS_H_ */
