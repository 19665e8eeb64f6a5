"""Prints what scikit-learn finds for the samples of runtime/src/training/tests.rs.

    python tests/oracle/logistic_regression.py

The numbers in the tests are its output under scikit-learn 1.9.1.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.preprocessing import StandardScaler

MASK = (1 << 64) - 1


def make_samples(rows, width, classes):
    """The samples of the tests: features on a grid, classes by noisy sums of them."""
    state = 1

    def number():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) & MASK
        return (state >> 48) / 32768 - 1

    features = np.zeros((rows, width), np.float32)
    targets = np.zeros(rows, np.int64)
    for row in range(rows):
        values = [number() for _ in range(width)]
        # Unequal scales, and means far from 0.
        features[row] = [value * (c + 1) + 3 * c for c, value in enumerate(values)]
        scores = [value + number() for value in values[:classes]]
        targets[row] = int(np.argmax(scores))
    return features, targets


def main():
    # The same objective as that of lbfgs, solved to the last digits.
    exact = {"solver": "newton-cholesky", "tol": 1e-12, "max_iter": 100_000}
    for classes in (2, 3):
        features, targets = make_samples(120, 4, classes)
        features = features.astype(np.float64)
        scaler = StandardScaler()
        scaled = scaler.fit_transform(features)
        print(f"classes: {classes}, texts: {np.bincount(targets)}")
        for name, inputs, options in (
            ("C=1", features, {}),
            ("C=0.01", features, {"C": 0.01}),
            ("C=100", features, {"C": 100}),
            ("balanced", features, {"class_weight": "balanced"}),
            ("standardized", scaled, {}),
        ):
            model = LogisticRegression(**exact, **options).fit(inputs, targets)
            weights, intercept = model.coef_, model.intercept_
            if name == "standardized":
                weights = weights / scaler.scale_
                intercept = intercept - weights @ scaler.mean_
            print(name, weights.tolist(), intercept.tolist())
        strengths = [0.001, 0.01, 0.1, 1, 10]
        search = LogisticRegressionCV(
            Cs=strengths,
            cv=5,
            scoring="accuracy",
            l1_ratios=(0,),
            use_legacy_attributes=False,
            **exact,
        ).fit(features, targets)
        print("cross-validation", search.scores_.mean(axis=0).ravel().tolist(), search.C_)


if __name__ == "__main__":
    main()
