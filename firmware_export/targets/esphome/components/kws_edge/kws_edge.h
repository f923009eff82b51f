// SPDX-License-Identifier: Apache-2.0
/// @file
/// @brief ESPHome component: the words of one network, heard by a microphone of ESPHome's.
///
/// A task of its own hears the audio, so that the main loop never waits for an inference. It begins with the self-test.
/// The task tells the main loop of all that happens, which calls the automations and publishes the sensors.
#pragma once

#include "esphome/components/microphone/microphone_source.h"
#include "esphome/core/component.h"
#include "esphome/core/defines.h"
#include "esphome/core/helpers.h"
#ifdef USE_SENSOR
#include "esphome/components/sensor/sensor.h"
#endif

#include <atomic>
#include <string>
#include <vector>

#include "kws_app.h"
#include "kws_ring.h"

namespace esphome {
namespace kws_edge {

/// What the task tells the main loop.
struct Event {
    enum Kind : uint8_t {
        LINE,       ///< `text` is a line of the self-test.
        LISTENING,  ///< The task waits for the samples of `session`.
        COMMAND,    ///< `text` is the word, and `value` its score, 0 to 1.
        LEVEL,      ///< `value` is the level of the last second, dB of full scale.
        LOST,       ///< `value` samples were lost.
        FAILED      ///< `text` says why the task ended.
    };
    Kind kind;
    uint32_t session;  ///< Number of the start that this belongs to.
    float value;
    std::string text;
};

class KwsEdge : public Component {
public:
    void setup() override;
    void loop() override;
    void dump_config() override;
    float get_setup_priority() const override { return setup_priority::AFTER_CONNECTION; }

    /// Listens, as soon as the self-test has passed.
    void start();
    /// Ends listening and stops the microphone.
    void stop();
    /// Whether the microphone runs for this component.
    bool is_running() const { return this->listening_; }

    void set_microphone_source(microphone::MicrophoneSource *source) { this->microphone_ = source; }
    void set_start_on_boot(bool start_on_boot) { this->start_on_boot_ = start_on_boot; }
#ifdef USE_SENSOR
    void set_level_sensor(sensor::Sensor *sensor) { this->level_sensor_ = sensor; }
    void set_score_sensor(sensor::Sensor *sensor) { this->score_sensor_ = sensor; }
#endif
#if KWS_SENSITIVITY_STEPS
    /// Takes the thresholds of a sensitivity, 0 (hears least) to 1.
    void set_sensitivity(float sensitivity);
#endif

    /// Calls `callback` with each word and its score.
    template <typename F>
    void add_on_command_callback(F &&callback) {
        this->on_command_.add(std::forward<F>(callback));
    }
    /// Calls `callback` with the reason when the component fails, or the microphone gives no samples.
    template <typename F>
    void add_on_error_callback(F &&callback) {
        this->on_error_.add(std::forward<F>(callback));
    }

protected:
    static void on_detection_(const kws_detection *detection, void *context);
    static void on_line_(void *context, const char *line);
    static uint32_t count_cycles_(void *context);

    bool start_task_();
    void work_();
    kws_status prepare_();
    kws_status begin_(uint32_t session);
    kws_status hear_(const int16_t *samples, size_t n_samples, uint32_t lost);
    kws_status hear_ring_();
    void measure_(const int16_t *samples, size_t n_samples);
    void post_(Event::Kind kind, float value = 0.0f, const char *text = "");

    void handle_(const Event &event);
    void fail_(const std::string &reason);
    void check_microphone_();

    // The main loop's.
    microphone::MicrophoneSource *microphone_{nullptr};
    bool start_on_boot_{true};
    bool listening_{false};
    bool silent_{false};
    uint32_t sessions_{0};
    uint32_t last_ms_{0};
    uint32_t last_written_{0};
    CallbackManager<void(const std::string &, float)> on_command_{};
    CallbackManager<void(const std::string &)> on_error_{};
#ifdef USE_SENSOR
    sensor::Sensor *level_sensor_{nullptr};
    sensor::Sensor *score_sensor_{nullptr};
#endif

    // Of both.
    std::atomic<uint32_t> wanted_{0};  // the session that the task shall hear; 0: none
    std::atomic<uint32_t> written_{0};
    std::atomic<const kws_detector_config *> config_{&kws_detector_defaults};
    Mutex mutex_;
    std::vector<Event> events_;
    kws_ring ring_{};

    // The task's.
    uint8_t *arena_{nullptr};
    uint32_t session_{0};
    uint64_t power_{0};  // sum of the squares of `n_power_` samples
    uint32_t n_power_{0};
    kws_model model_{};
    kws_app app_{};
};

}  // namespace kws_edge
}  // namespace esphome
