/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file
 * @brief Status codes that the functions of this library return.
 */
#ifndef KWS_STATUS_H_
#define KWS_STATUS_H_

/**
 * Success or the error of a function.
 *
 * All errors lie from KWS_ERR_LAST to KWS_ERR_FIRST. errno, esp_err_t and Mbed have no numbers in this range. So one
 * `int` can hold these errors and those of your board.
 */
typedef enum kws_status {
    KWS_OK = 0,                 /**< Success. */
    KWS_ERR_FIRST = -30001,     /**< The largest error. */
    KWS_ERR_SCHEMA = -30001,    /**< TensorFlow Lite Micro reads another version of the file format. */
    KWS_ERR_OPS = -30002,       /**< An operator could not be registered. */
    KWS_ERR_ARENA = -30003,     /**< The arena is too small, or an operator refused the model. TFLM's log says which. */
    KWS_ERR_TENSOR = -30004,    /**< The model's input or output differs from the one at export. */
    KWS_ERR_INVOKE = -30005,    /**< An operator failed. */
    KWS_ERR_STATE = -30006,     /**< The function that sets this up was not called. */
    KWS_ERR_SELF_TEST = -30007, /**< The board does not compute what the host computed. */
    KWS_ERR_ARGUMENT = -30008,  /**< A pointer is NULL, or a number is out of range. */
    KWS_ERR_PORT = -30009,      /**< A function of the kws_port failed, or returned an invalid value. */
    KWS_ERR_WORDS = -30010,     /**< There is no whole table of taught words for this encoder. */
    KWS_ERR_LAST = -30099       /**< The smallest error that a later version may use. */
} kws_status;

#endif /* KWS_STATUS_H_ */
