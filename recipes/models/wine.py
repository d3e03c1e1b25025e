"""Wines of three cultivars, told apart by their chemistry: scikit-learn's `load_wine`, 178 rows.

Trained as the recipe is built, in a second or two. One column is text: a class of colour made of the colour's intensity.
"""

from __future__ import annotations

from typing import Any

NUMBERS = ("alcohol", "malic_acid", "flavanoids", "hue", "od280/od315_of_diluted_wines", "proline")
COLOURS = ((5.5, "deep"), (3.5, "medium"), (0.0, "pale"))  # from this intensity on


def table() -> tuple[Any, Any]:
    """The features as a pandas.DataFrame, and the cultivar of each row, 0 to 2."""
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    features = wine.data[list(NUMBERS)].copy()
    features["colour"] = [next(name for least, name in COLOURS if one >= least) for one in wine.data.color_intensity]
    return features, wine.target


def pipeline() -> Any:
    """Scaled numbers and one-hot colours into a logistic regression."""
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer([("numbers", StandardScaler(), list(NUMBERS)), ("colour", OneHotEncoder(), ["colour"])])
    features, cultivar = table()
    return Pipeline([("columns", columns), ("classifier", LogisticRegression(max_iter=1000))]).fit(features, cultivar)


def boosted(trees: int = 30) -> Any:
    """Gradient-boosted trees of LightGBM on the numbers alone, the same on every machine."""
    from lightgbm import LGBMClassifier

    features, cultivar = table()
    booster = LGBMClassifier(n_estimators=trees, deterministic=True, force_col_wise=True, n_jobs=1, verbose=-1)
    return booster.fit(features[list(NUMBERS)], cultivar)
