// INVITEs that were refused without a transaction. Who repeats one was not answered in time, and must not be taken the second
// time: he may have had his 503 meanwhile, and nobody would acknowledge the answer.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <unordered_set>

namespace sidecar {

// Policy when full: the oldest is forgotten. At 4000 a second that is after 16 s, and a repeat comes within 4 s (T2).
class RefusedBefore {
public:
    void note(const std::string& transaction) {
        const std::size_t name = std::hash<std::string>{}(transaction);
        if (!known_.insert(name).second) return;
        order_.push_back(name);
        if (order_.size() <= transactions_max) return;
        known_.erase(order_.front());
        order_.pop_front();
    }
    bool holds(const std::string& transaction) const {
        return !order_.empty() && known_.contains(std::hash<std::string>{}(transaction));
    }

private:
    static constexpr std::size_t transactions_max = 65'536;
    std::unordered_set<std::size_t> known_;
    std::deque<std::size_t> order_;
};

}  // namespace sidecar
