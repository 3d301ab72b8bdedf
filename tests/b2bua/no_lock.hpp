// std::lock_guard as it would be if it did nothing: to see the sanitizer find that.
#pragma once

#include <mutex>
#include <thread>
#include <vector>
namespace std {
template <typename M>
struct no_lock {
    explicit no_lock(M&) {}
};
template <typename M>
no_lock(M&) -> no_lock<M>;
}  // namespace std
#define lock_guard no_lock
