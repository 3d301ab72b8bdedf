// What crosses the border to Python is declared once: a struct says its name and its fields, and from that alone it is
// packed (messagepack.hpp), read (module.cpp) and described. sidecar/b2bua/boundary.py compares the descriptions with the
// structs of core/events and core/commands when it is imported.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// SIDECAR_DECLARES(Name, field...) inside of a struct: the name that the core has for it, and its fields in the core's order.
#define SIDECAR_DECLARES(declared, ...)                             \
    static constexpr std::string_view name = #declared;             \
    template <typename Self, typename Take>                         \
    static void each_field([[maybe_unused]] Self& self, Take take) { \
        SIDECAR_FOR_EACH(SIDECAR_FIELD, __VA_ARGS__)                \
    }
#define SIDECAR_FIELD(field) take(#field, self.field);

// The usual recursion of the preprocessor; up to 81 fields.
#define SIDECAR_PARENTHESES ()
#define SIDECAR_EXPAND(...) SIDECAR_EXPAND3(SIDECAR_EXPAND3(SIDECAR_EXPAND3(__VA_ARGS__)))
#define SIDECAR_EXPAND3(...) SIDECAR_EXPAND2(SIDECAR_EXPAND2(SIDECAR_EXPAND2(__VA_ARGS__)))
#define SIDECAR_EXPAND2(...) SIDECAR_EXPAND1(SIDECAR_EXPAND1(SIDECAR_EXPAND1(__VA_ARGS__)))
#define SIDECAR_EXPAND1(...) SIDECAR_EXPAND0(SIDECAR_EXPAND0(SIDECAR_EXPAND0(__VA_ARGS__)))
#define SIDECAR_EXPAND0(...) __VA_ARGS__
#define SIDECAR_FOR_EACH(macro, ...) __VA_OPT__(SIDECAR_EXPAND(SIDECAR_FOR_REST(macro, __VA_ARGS__)))
#define SIDECAR_FOR_REST(macro, first, ...) \
    macro(first) __VA_OPT__(SIDECAR_FOR_AGAIN SIDECAR_PARENTHESES(macro, __VA_ARGS__))
#define SIDECAR_FOR_AGAIN() SIDECAR_FOR_REST

namespace sidecar {

template <typename T>
concept Declared = requires { T::name; };

// The words of a closed set of core/terms, in its order: `name` and `words`.
template <typename T>
struct Words;
template <typename T>
concept Word = requires { Words<T>::words; };

struct IdSet {
    std::vector<std::uint64_t> ids;
};

// A word of core/terms.Detail that Python has said, or one of those that native code uses by itself (own_details in settings.hpp).
struct Detail {
    std::string_view word;
};

template <typename T>
struct TypeName;
template <std::integral T>
struct TypeName<T> {
    static std::string get() { return std::same_as<T, bool> ? "bool" : "int"; }
};
template <typename T>
    requires std::same_as<T, std::string> || std::same_as<T, std::string_view>
struct TypeName<T> {
    static std::string get() { return "str"; }
};
template <>
struct TypeName<IdSet> {
    static std::string get() { return "frozenset[int]"; }
};
template <>
struct TypeName<Detail> {
    static std::string get() { return "Detail"; }
};
template <Declared T>
struct TypeName<T> {
    static std::string get() { return std::string(T::name); }
};
template <Word T>
struct TypeName<T> {
    static std::string get() { return std::string(Words<T>::name); }
};
template <typename T>
struct TypeName<std::vector<T>> {
    static std::string get() { return "tuple[" + TypeName<T>::get() + ", ...]"; }
};
template <typename T>
struct TypeName<std::optional<T>> {
    static std::string get() { return TypeName<T>::get() + " | None"; }
};
template <typename A, typename B>
struct TypeName<std::pair<A, B>> {
    static std::string get() { return "tuple[" + TypeName<A>::get() + ", " + TypeName<B>::get() + "]"; }
};

using Description = std::vector<std::pair<std::string, std::string>>;  // the fields' names and types, in order

template <Declared T>
Description described() {
    Description out;
    T sample{};
    T::each_field(sample, [&]<typename V>(const char* field, V&) { out.emplace_back(field, TypeName<V>::get()); });
    return out;
}

}  // namespace sidecar
