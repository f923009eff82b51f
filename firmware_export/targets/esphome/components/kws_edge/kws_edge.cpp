// SPDX-License-Identifier: Apache-2.0
#include "kws_edge.h"

#include "esphome/core/hal.h"
#include "esphome/core/log.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <thread>
#ifdef USE_ESP32
#include <esp_pthread.h>
#endif

#include "kws_self_test.h"

namespace esphome {
namespace kws_edge {

static const char *const TAG = "kws_edge";

static const size_t ARENA_ALIGNMENT = 16;
static const uint32_t RING_SAMPLES = 8192;  // 512 ms at 16 kHz; an inference must not take longer
static const size_t BLOCK = KWS_HOP_LENGTH < 256 ? KWS_HOP_LENGTH : 256;
static const uint32_t IDLE_MS = 10;
static const uint32_t SILENT_MS = 5000;
static const float FLOOR_DB = -70.0f;  // as that of kws-edge
static const float FULL_SCALE = 32768.0f * 32768.0f;
#ifdef USE_ESP32
static const size_t STACK_BYTES = 8192;
static const size_t PRIORITY = 3;
#endif

void KwsEdge::setup() {
    RAMAllocator<uint8_t> bytes;
    RAMAllocator<int16_t> samples;
    this->arena_ = bytes.allocate(KWS_ARENA_SIZE + ARENA_ALIGNMENT);
    int16_t *const waiting = samples.allocate(RING_SAMPLES);
    if (this->arena_ == nullptr || kws_ring_init(&this->ring_, waiting, RING_SAMPLES) != KWS_OK) {
        this->fail_("no memory for arena and samples");
        return;
    }
    this->microphone_->add_data_callback([this](const std::vector<uint8_t> &data) {
        const size_t n_samples = data.size() / sizeof(int16_t);
        (void)kws_ring_write(&this->ring_, reinterpret_cast<const int16_t *>(data.data()), n_samples, nullptr);
        this->written_ += n_samples;
    });
    if (!this->start_task_()) {
        this->fail_("no memory for the task");
        return;
    }
    if (this->start_on_boot_) {
        this->start();
    }
}

bool KwsEdge::start_task_() {
#ifdef USE_ESP32
    esp_pthread_cfg_t config = esp_pthread_get_default_config();
    config.stack_size = STACK_BYTES;
    config.prio = PRIORITY;
    config.thread_name = "kws_edge";
    if (esp_pthread_set_cfg(&config) != ESP_OK) {
        return false;
    }
#endif
    std::thread([this] { this->work_(); }).detach();
    return true;
}

void KwsEdge::dump_config() {
    ESP_LOGCONFIG(TAG,
                  "kws-edge " KWS_VERSION
                  ":\n"
                  "  Labels: %d\n"
                  "  Inference: each %d ms\n"
                  "  Arena: %d bytes",
                  KWS_N_LABELS, KWS_STEP_FRAMES * KWS_HOP_LENGTH * 1000 / KWS_SAMPLE_RATE, KWS_ARENA_SIZE);
}

void KwsEdge::start() {
    if (this->is_failed() || this->wanted_ != 0) {
        return;
    }
    this->sessions_++;
    this->wanted_ = this->sessions_;
}

void KwsEdge::stop() {
    this->wanted_ = 0;
    if (this->listening_) {
        this->microphone_->stop();
        this->listening_ = false;
    }
    if (this->silent_) {
        this->silent_ = false;
        this->status_clear_error();
    }
}

#if KWS_SENSITIVITY_STEPS
void KwsEdge::set_sensitivity(float sensitivity) {
    const float step = roundf(clamp(sensitivity, 0.0f, 1.0f) * KWS_SENSITIVITY_STEPS);
    this->config_ = &kws_detector_sensitivities[static_cast<int>(step)];
}
#endif

// --- the task ---

void KwsEdge::work_() {
    kws_status status = this->prepare_();
    while (status == KWS_OK) {
        const uint32_t wanted = this->wanted_;
        if (wanted == 0) {
            delay(IDLE_MS);
        } else if (wanted != this->session_) {
            status = this->begin_(wanted);
        } else {
            status = this->hear_ring_();
        }
    }
    char text[64];
    (void)snprintf(text, sizeof text, "%s (KWS_ERR %d)",
                   status == KWS_ERR_SELF_TEST ? "the self-test failed" : "the model failed", status);
    this->post_(Event::FAILED, 0.0f, text);
}

kws_status KwsEdge::prepare_() {
    void *arena = this->arena_;
    size_t space = KWS_ARENA_SIZE + ARENA_ALIGNMENT;
    std::align(ARENA_ALIGNMENT, KWS_ARENA_SIZE, arena, space);
    kws_status status = kws_model_init(&this->model_, arena, KWS_ARENA_SIZE);
    if (status == KWS_OK) {
        status = kws_app_init(&this->app_, &this->model_, on_detection_, this);
    }
#if KWS_SELF_TEST
    if (status == KWS_OK) {
        const kws_port port = {this, on_line_, count_cycles_, nullptr, nullptr};
        status = kws_self_test(&port, &this->app_);
    }
#endif
    return status;
}

// Begins a session without the samples of the last one.
kws_status KwsEdge::begin_(uint32_t session) {
    int16_t block[BLOCK];
    size_t taken = 0;
    uint32_t lost = 0;
    do {
        (void)kws_ring_read(&this->ring_, block, BLOCK, &taken, &lost);
    } while (taken > 0 || lost > 0);
    this->session_ = session;
    this->power_ = 0;
    this->n_power_ = 0;
    const kws_status status = kws_app_reset(&this->app_);
    if (status == KWS_OK) {
        this->post_(Event::LISTENING);
    }
    return status;
}

kws_status KwsEdge::hear_ring_() {
    int16_t block[BLOCK];
    size_t taken = 0;
    uint32_t lost = 0;
    const kws_status status = kws_ring_read(&this->ring_, block, BLOCK, &taken, &lost);
    if (status == KWS_OK && taken == 0 && lost == 0) {
        delay(IDLE_MS);
        return KWS_OK;
    }
    return status == KWS_OK ? this->hear_(block, taken, lost) : status;
}

kws_status KwsEdge::hear_(const int16_t *samples, size_t n_samples, uint32_t lost) {
    this->app_.config = this->config_;
    if (lost > 0) {
        this->post_(Event::LOST, static_cast<float>(lost));
    }
    const kws_status status = kws_app_lost(&this->app_, lost);
    if (status != KWS_OK) {
        return status;
    }
    this->measure_(samples, n_samples);
    return kws_app_process(&this->app_, samples, n_samples);
}

// The level of each second, as kws-edge tells it.
void KwsEdge::measure_(const int16_t *samples, size_t n_samples) {
    for (size_t i = 0; i < n_samples; i++) {
        this->power_ += static_cast<uint32_t>(samples[i] * samples[i]);
    }
    this->n_power_ += n_samples;
    if (this->n_power_ >= KWS_SAMPLE_RATE) {
        const float power = static_cast<float>(this->power_) / static_cast<float>(this->n_power_) / FULL_SCALE;
        this->post_(Event::LEVEL, std::max(FLOOR_DB, 10.0f * log10f(power + 1e-12f)));
        this->power_ = 0;
        this->n_power_ = 0;
    }
}

void KwsEdge::post_(Event::Kind kind, float value, const char *text) {
    LockGuard guard(this->mutex_);
    this->events_.push_back({kind, this->session_, value, text});
}

void KwsEdge::on_detection_(const kws_detection *detection, void *context) {
    static_cast<KwsEdge *>(context)->post_(Event::COMMAND, detection->score, detection->keyword);
}

void KwsEdge::on_line_(void *context, const char *line) {
    static_cast<KwsEdge *>(context)->post_(Event::LINE, 0.0f, line);
}

uint32_t KwsEdge::count_cycles_(void *context) {
    (void)context;
    return arch_get_cpu_cycle_count();
}

// --- the main loop ---

void KwsEdge::loop() {
    std::vector<Event> events;
    {
        LockGuard guard(this->mutex_);
        events.swap(this->events_);
    }
    for (const Event &event : events) {
        this->handle_(event);
    }
    if (this->listening_) {
        this->check_microphone_();
    }
}

void KwsEdge::handle_(const Event &event) {
    if (event.kind == Event::LINE) {
        ESP_LOGI(TAG, "%s", event.text.c_str());
        return;
    }
    if (event.kind == Event::FAILED) {
        this->fail_(event.text);
        return;
    }
    if (event.session != this->wanted_) {  // of a session that was stopped meanwhile
        return;
    }
    switch (event.kind) {
        case Event::LISTENING:
            ESP_LOGI(TAG, "listening");
            this->listening_ = true;
            this->last_ms_ = millis();
            this->microphone_->start();
            break;
        case Event::COMMAND:
            ESP_LOGI(TAG, "%s (%d %%)", event.text.c_str(), static_cast<int>(lroundf(100.0f * event.value)));
#ifdef USE_SENSOR
            if (this->score_sensor_ != nullptr) {
                this->score_sensor_->publish_state(100.0f * event.value);
            }
#endif
            this->on_command_.call(event.text, event.value);
            break;
        case Event::LEVEL:
#ifdef USE_SENSOR
            if (this->level_sensor_ != nullptr) {
                this->level_sensor_->publish_state(event.value);
            }
#endif
            break;
        case Event::LOST:
            ESP_LOGW(TAG, "%.0f samples were lost: the core is too slow for this network", event.value);
            break;
        default: break;
    }
}

void KwsEdge::fail_(const std::string &reason) {
    ESP_LOGE(TAG, "%s", reason.c_str());
    this->stop();
    this->on_error_.call(reason);
    this->mark_failed(LOG_STR("see the log"));
}

// A microphone that gives nothing must not go unnoticed.
void KwsEdge::check_microphone_() {
    const uint32_t written = this->written_;
    if (written != this->last_written_) {
        this->last_written_ = written;
        this->last_ms_ = millis();
        if (this->silent_) {
            this->silent_ = false;
            this->status_clear_error();
            ESP_LOGI(TAG, "the microphone gives samples again");
        }
    } else if (!this->silent_ && millis() - this->last_ms_ > SILENT_MS) {
        this->silent_ = true;
        this->status_set_error(LOG_STR("the microphone gives no samples"));
        this->on_error_.call("the microphone gives no samples");
    }
}

}  // namespace kws_edge
}  // namespace esphome
