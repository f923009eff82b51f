// SPDX-License-Identifier: Apache-2.0
/// @file
/// @brief Triggers, actions and conditions of the component.
#pragma once

#include "esphome/core/automation.h"

#include <string>

#include "kws_edge.h"

namespace esphome {
namespace kws_edge {

/// Triggers on one word, or on each, with the word and its score.
class CommandTrigger : public Trigger<std::string, float> {
public:
    explicit CommandTrigger(KwsEdge *parent) {
        parent->add_on_command_callback([this](const std::string &heard, float score) { this->trigger(heard, score); });
    }
    CommandTrigger(KwsEdge *parent, const std::string &word) {
        parent->add_on_command_callback([this, word](const std::string &heard, float score) {
            if (heard == word) {
                this->trigger(heard, score);
            }
        });
    }
};

/// Triggers with the reason when the component cannot hear.
class ErrorTrigger : public Trigger<std::string> {
public:
    explicit ErrorTrigger(KwsEdge *parent) {
        parent->add_on_error_callback([this](const std::string &reason) { this->trigger(reason); });
    }
};

template <typename... Ts>
class StartAction : public Action<Ts...>, public Parented<KwsEdge> {
public:
    void play(const Ts &...) override { this->parent_->start(); }
};

template <typename... Ts>
class StopAction : public Action<Ts...>, public Parented<KwsEdge> {
public:
    void play(const Ts &...) override { this->parent_->stop(); }
};

template <typename... Ts>
class IsRunningCondition : public Condition<Ts...>, public Parented<KwsEdge> {
public:
    bool check(const Ts &...) override { return this->parent_->is_running(); }
};

}  // namespace kws_edge
}  // namespace esphome
