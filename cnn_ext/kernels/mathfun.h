/* exp in both precisions, tanh and the normal distribution in float32, without branches or calls, so that compilers
 * vectorise the loops around them. Range reduction and polynomials of exp and tanh: Moshier, Cephes (expf.c, exp.c,
 * tanhf.c), within 2 ulp. NaN stays NaN. */
#ifndef PYNN_MATHFUN_H
#define PYNN_MATHFUN_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* e^x for x <= 0; below −87.3, where the result is no longer a normal float, 0.
 * x = n ln 2 + r with |r| <= ln 2 / 2, e^x = 2^n e^r. Adding 1.5 · 2^23 rounds to the integer n and leaves it in
 * the low bits, from where it is shifted into the exponent. */
static inline float pynn_exp_nonpositive(float x) {
    const float rounding = 12582912.0f;
    float shifted = x * 1.44269504088896341f + rounding;
    float n = shifted - rounding;
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    uint32_t bits;
    float power;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127u) << 23;
    memcpy(&power, &bits, sizeof power);
    return x < -87.3f ? 0.0f : p * power;
}

/* The same in double: below −708.3 it is 0. e^r is a rational function, 1 + 2 rP(r²) / (Q(r²) − rP(r²)); rounded by
 * 1.5 · 2^52. */
static inline double pynn_exp_nonpositive_double(double x) {
    const double rounding = 6755399441055744.0;
    double shifted = x * 1.4426950408889634 + rounding;
    double n = shifted - rounding;
    double r = (x - n * 6.93145751953125e-1) - n * 1.42860682030941723212e-6;
    double z = r * r;
    double p = 1.26177193074810590878e-4, q = 3.00198505138664455042e-6;
    uint64_t bits;
    double power;
    p = p * z + 3.02994407707441961300e-2;
    p = (p * z + 9.99999999999999999910e-1) * r;
    q = q * z + 2.52448340349684104192e-3;
    q = q * z + 2.27265548208155028766e-1;
    q = q * z + 2.0;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023u) << 52;
    memcpy(&power, &bits, sizeof power);
    return x < -708.3 ? 0.0 : (1.0 + 2.0 * (p / (q - p))) * power;
}

/* tanh x: an odd polynomial near 0, and (1 − e) / (1 + e) with e = e^(−2|x|) elsewhere. */
static inline float pynn_tanhf(float x) {
    float z = x * x, e = pynn_exp_nonpositive(-2.0f * fabsf(x));
    float far_from_0 = (1.0f - e) / (1.0f + e);
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f;
    p = p * z - 5.37397155531e-2f;
    p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    p = p * z * x + x;
    return copysignf(fabsf(x) < 0.625f ? p : far_from_0, x);  /* of −0 too */
}

/* Φ(x), given e = exp(−x²/2). The upper tail of the normal distribution is Q(|x|) = e · t · P(t), t = 1 / (1 + 0.27 |x|):
 * P is fitted in t for the least relative error, 2.3e-8 over |x| <= 13.3, where e reaches 0. */
static inline float pynn_normal_cdff(float x, float e) {
    float t = 1.0f / (1.0f + 0.27f * fabsf(x));
    float p = 0.0288270068f;
    float tail;
    p = p * t - 0.125809824f;
    p = p * t + 0.168332491f;
    p = p * t - 0.0674733873f;
    p = p * t + 0.106566325f;
    p = p * t + 0.0726150489f;
    p = p * t + 0.101657407f;
    p = p * t + 0.107565719f;
    p = p * t + 0.107719224f;
    tail = e * t * p;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
