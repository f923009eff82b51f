// SPDX-License-Identifier: Apache-2.0
// A microphone that plays a recording in a thread of its own, as ESPHome's microphones do.
#pragma once

#include "esphome/components/microphone/microphone.h"
#include "esphome/core/component.h"

#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

namespace esphome {
namespace recording {

class RecordingMicrophone : public microphone::Microphone, public Component {
public:
    RecordingMicrophone(const std::string &path, float speed) : path_(path), speed_(speed) {
        this->audio_stream_info_ = audio::AudioStreamInfo(16, 1, 16000);
    }

    void start() override {
        this->state_ = microphone::STATE_RUNNING;
        if (!this->started_) {
            this->started_ = true;
            std::thread([this] { this->play_(); }).detach();
        }
    }
    void stop() override { this->state_ = microphone::STATE_STOPPED; }

protected:
    void play_() {
        FILE *const file = fopen(this->path_.c_str(), "rb");
        std::vector<uint8_t> block(2 * 320);
        auto due = std::chrono::steady_clock::now();
        for (size_t n; file != nullptr && (n = fread(block.data(), 1, block.size(), file)) > 0;) {
            block.resize(n);
            due += std::chrono::microseconds(static_cast<int64_t>(31.25 * static_cast<double>(n) / this->speed_));
            std::this_thread::sleep_until(due);
            if (this->state_ == microphone::STATE_RUNNING) {
                this->data_callbacks_.call(block);
            }
        }
    }

    std::string path_;
    float speed_;
    bool started_{false};
};

} // namespace recording
} // namespace esphome
