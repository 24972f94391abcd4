# Softmax and cross-entropy in one: loss and gradient from scores (N, K), in double whatever their dtype. A task is some of
# the rows, which own their parts of the gradient, and a slot for the sum of their losses; slots are summed in order.
# Cost: an exponential and a multiplication an element, a logarithm and two divisions a row.

cdef enum:
    PIECE = 1024  # scores that are worked on at once, where a row has fewer: their exponentials are one loop
    LOSS_SLOTS = 64  # tasks, at most


cdef double cross_entropy_piece(
    const real_t* scores, const int64_t* labels, Py_ssize_t rows, Py_ssize_t k, double smoothing, double scale,
    real_t* dscores, double* e,
) noexcept nogil:
    # The sum of the losses of some rows, NaN where a score is not finite.
    # Scores count from the row's largest, whose exponential is 1 and is kept out of `rest`: so neither the loss nor the
    # gradient of a label that is almost certain is what is left of a difference.
    cdef Py_ssize_t row, j, top, label
    cdef Py_ssize_t[PIECE] tops
    cdef const real_t* s
    cdef real_t largest
    cdef bint finite
    cdef double rest, total, others, loss = 0
    for row in range(rows):
        s = scores + row * k
        top, largest, finite = 0, s[0], True
        for j in range(k):
            top = j if s[j] > largest else top
            largest = s[j] if s[j] > largest else largest
            finite &= fabs(s[j]) < INFINITY
        for j in range(k):
            e[row * k + j] = <double>s[j] - largest
        tops[row] = top
        if not finite:
            loss = NAN
    for j in range(rows * k):
        e[j] = exp_nonpositive(e[j])
    for row in range(rows):
        s, top, label, rest = scores + row * k, tops[row], labels[row], 0
        e[top] = 0
        for j in range(k):
            rest += e[j]
        e[top] = 1
        total = 1 + rest
        others = rest if label == top else total - e[label]
        for j in range(k):
            dscores[row * k + j] = <real_t>(e[j] * (scale / total) - smoothing / k * scale)
        dscores[row * k + label] = <real_t>((smoothing - smoothing / k - others / total) * scale)
        loss += log(total) + (rest - (total - 1)) / total  # log(1 + rest), what `total` lost put back
        loss -= (1 - smoothing) * (<double>s[label] - s[top])
        if smoothing > 0:
            for j in range(k):
                loss -= smoothing / k * (<double>s[j] - s[top])
        e += k
    return loss


cdef double cross_entropy_rows(
    const real_t* scores, const int64_t* labels, Py_ssize_t rows, Py_ssize_t k, double smoothing, double scale,
    real_t* dscores, double* e,
) noexcept nogil:
    cdef double[PIECE] few
    cdef Py_ssize_t piece, row, at_once = max(1, PIECE // k)
    cdef double loss = 0
    if k <= PIECE:
        e = few
    for piece in range((rows + at_once - 1) // at_once):
        row = piece * at_once
        loss += cross_entropy_piece(
            scores + row * k, labels + row, min(at_once, rows - row), k, smoothing, scale, dscores + row * k,
            e,
        )
    return loss


def softmax_cross_entropy(
    const real_t[:, ::1] scores not None, const int64_t[::1] labels not None, double smoothing, real_t[:, ::1] dscores not None,
    double[::1] scratch not None, int n_threads,
):
    # scratch: K elements a thread where K > PIECE, else none. Returns the mean of the losses, and how many labels are not
    # from 0 to K − 1: with any, nothing is computed.
    cdef Py_ssize_t slot, row, n = scores.shape[0], k = scores.shape[1], outside = 0
    cdef Py_ssize_t slots = min(LOSS_SLOTS, (n * k + PIECE - 1) // PIECE, n)
    cdef double[LOSS_SLOTS] losses
    cdef double loss = 0
    n_threads = team(n_threads)
    require(
        scores.shape[0] and scores.shape[1] and (scores.shape[0], scores.shape[1]) == (dscores.shape[0], dscores.shape[1])
        and labels.shape[0] == scores.shape[0] and (scores.shape[1] <= PIECE or scratch.shape[0] >= n_threads * scores.shape[1]),
        "softmax_cross_entropy",
    )
    for row in range(n):
        outside += not 0 <= labels[row] < k
    if outside:
        return loss, outside
    for slot in prange(slots, nogil=True, schedule="static", num_threads=n_threads):
        row = slot * n // slots
        losses[slot] = cross_entropy_rows(
            &scores[row, 0], &labels[row], (slot + 1) * n // slots - row, k, smoothing, 1.0 / n, &dscores[row, 0],
            &scratch[threadid() * k] if k > PIECE else NULL,
        )
    for slot in range(slots):
        loss += losses[slot]
    return loss / n, outside


softmax_piece = PIECE
